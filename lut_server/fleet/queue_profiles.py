"""Queues a profile job for each table that a device lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lut_server.fleet.gaps import any_version, is_measured
from lut_server.fleet.rows import get_health
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
    """Which tables to ask for; without threads or precision, as the device's newest table.

    Attributes:
        spaces: whole names, or their first parts; none: every space that a device has a table of.
        devices: none: all.
    """

    spaces: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    threads: int | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Asked:
    """The answer for one table.

    Attributes:
        outcome: "queued", "was queued already", "has it", or "imported: no agent".
        job: makes the table.
        notice: why the job waits: the device is not alive.
    """

    device: str
    space: str
    runtime: str
    outcome: str
    job: str | None
    alive: bool
    notice: str | None


def ask_for_missing(store: Store, wanted: Wanted, now: datetime) -> tuple[Asked, ...]:
    """Queue a profile job for each wanted table that is missing; asking again queues no second job.

    Raises:
        NotFound: unknown_device.
        WrongUse: no such space; or no space is named, and no device has a table yet.
    """
    devices = [store.devices.get(name) for name in wanted.devices] or list(store.devices.list())
    tables = [table for table in store.tables.list() if is_measured(table)]
    spaces = _spaces(wanted.spaces, tables)
    imported = {table.device for table in store.tables.list()} - {table.device for table in tables}
    return tuple(
        _ask(store, device, space, [table for table in tables if table.device == device.name], wanted, imported, now)
        for device in sorted(devices, key=lambda device: device.name)
        for space in spaces
    )


def _spaces(asked: Sequence[str], tables: Sequence[TableSummary]) -> list[str]:
    """Whole spaces: those of the tables that begin with the text, else the space that it names."""
    measured = sorted({table.space for table in tables})
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
    health = get_health(device, device.name in imported, now)
    runtime = _runtime(device, tables, wanted)
    asked = Asked(device.name, space, str(runtime), NOBODY, None, health == "alive", None)
    if health == "imported":
        return asked
    if any(table.space == space and any_version(table.runtime) == runtime for table in tables):
        return replace(asked, outcome=HAS_IT)
    job, is_new = store.jobs.add_once(NewJob(device.name, "profile", runtime, str(CanaryGraph()), space))
    return replace(asked, outcome=QUEUED if is_new else WAITING, job=job.id, notice=None if asked.alive else job.notice)


def _runtime(device: Device, tables: Sequence[TableSummary], wanted: Wanted) -> Runtime:
    """That of the device's newest table, else ONNX Runtime on one thread; then what is wanted."""
    # Without a version, the job stays the same when the device's version changes.
    runtime = any_version(tables[-1].runtime) if tables else Runtime("onnxruntime", "any")
    threads = runtime.threads if wanted.threads is None else wanted.threads
    return replace(runtime, threads=threads, precision=wanted.precision or runtime.precision)
