"""Asks devices for tables that they lack: a profile job for each that has none queued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lut_server.fleet.activity import find_health
from lut_server.fleet.gaps import any_version, is_measured
from lut_server.store.sql import Store
from lut_server.store.values import Device, TableSummary
from lut_server.tables.table_lookup import whole_space
from shared.errors import WrongUse
from shared.jobs import NewJob
from shared.measurements.graph_spec import CanaryGraph
from shared.runtime import Runtime

QUEUED, WAITING, HAS_IT, NOBODY = "queued", "was queued already", "has it", "imported: no agent"


@dataclass(frozen=True)
class Wanted:
    """Which tables: of what spaces, and how measured where that shall not be as the device's newest table was.

    Attributes:
        spaces: each whole, or its first parts; none: every space that any device has a table of.
        devices: that are asked; none: all.
    """

    spaces: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    threads: int | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Asked:
    """What became of the wish for one table.

    Attributes:
        outcome: "queued", "was queued already", "has it", or "imported: no agent".
        job: that makes the table; None: none does.
        notice: what keeps the job from being done: the device is not alive.
    """

    device: str
    space: str
    runtime: str
    outcome: str
    job: str | None
    alive: bool
    notice: str | None


def ask_for_missing(store: Store, wanted: Wanted, now: datetime) -> tuple[Asked, ...]:
    """Queue a profile job for each table that is wanted and missing, once, however often it is asked for.

    Raises:
        NotFound: unknown_device.
        WrongUse: no such space, or none is named and no device has a table yet.
    """
    devices = [store.devices.get(name) for name in wanted.devices] or list(store.devices.list())
    tables = [one for one in store.tables.list() if is_measured(one)]
    spaces = _spaces(wanted.spaces, tables)
    imported = {one.device for one in store.tables.list()} - {one.device for one in tables}
    return tuple(
        _ask(store, device, space, [one for one in tables if one.device == device.name], wanted, imported, now)
        for device in sorted(devices, key=lambda one: one.name)
        for space in spaces
    )


def _spaces(asked: Sequence[str], tables: Sequence[TableSummary]) -> list[str]:
    """Whole spaces: those of the fleet's tables that begin with what is asked for, or the one that it means."""
    measured = sorted({one.space for one in tables})
    if not asked:
        if not measured:
            raise WrongUse("no device has a table yet: name a space with --space, for example nas-bench-201")
        return measured
    found: dict[str, None] = {}
    for text in asked:
        part = text.strip("/")
        known = [space for space in measured if f"{space}/".startswith(f"{part}/")]
        found.update(dict.fromkeys(known or [str(whole_space(part))]))
    return list(found)


def _ask(
    store: Store,
    device: Device,
    space: str,
    tables: Sequence[TableSummary],
    wanted: Wanted,
    imported: set[str],
    now: datetime,
) -> Asked:
    health = find_health(device, device.name in imported, now)
    runtime = _runtime(device, tables, wanted)
    asked = Asked(device.name, space, str(runtime), NOBODY, None, health == "alive", None)
    if health == "imported":
        return asked
    if any(one.space == space and any_version(one.runtime) == runtime for one in tables):
        return replace(asked, outcome=HAS_IT)
    job, is_new = store.jobs.add_once(NewJob(device.name, "profile", runtime, str(CanaryGraph()), space))
    return replace(asked, outcome=QUEUED if is_new else WAITING, job=job.id, notice=None if asked.alive else job.notice)


def _runtime(device: Device, tables: Sequence[TableSummary], wanted: Wanted) -> Runtime:
    """As the device's newest table was measured, else ONNX Runtime on one thread; but for what is wanted otherwise."""
    # Which version is there, the agent knows: without it the wish stays the same when that changes.
    runtime = any_version(tables[-1].runtime) if tables else Runtime("onnxruntime", "any")
    threads = runtime.threads if wanted.threads is None else wanted.threads
    return replace(runtime, threads=threads, precision=wanted.precision or runtime.precision)
