"""Devices: who was heard of, what of each was measured last and whether to believe it, and what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from lut_server.pages.paging import Paging, part
from lut_server.pages.table_facts import FactsReader, TableFacts
from lut_server.store import Device, Store, StoredRun, TableSummary
from shared.spaces import make_space
from shared.table import profile_command

DEVICES = 20
WORKING_S = 60.0
RECENT_S = 86_400.0


@dataclass(frozen=True)
class TableVerdict:
    """How many ops of a table are stable, and why the others are not, the most frequent reason first."""

    ops: int
    stable: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class DeviceRow:
    """A device at a glance.

    Attributes:
        health: "working" (an agent asks for its work), "seen" (within a day), "silent", or "imported" (nobody's).
        verdict: of the newest run, once it is finished.
        missing: what a user would miss, as sentences.
    """

    device: Device
    health: str
    newest_run: StoredRun | None
    newest_table: TableSummary | None
    tables: int
    verdict: TableVerdict | None
    missing: tuple[str, ...]


@dataclass(frozen=True)
class DevicesView:
    """The devices, those heard of last first."""

    devices: tuple[DeviceRow, ...]
    paging: Paging


@dataclass(frozen=True)
class DeviceView:
    """One device with its tables and runs, the newest first."""

    row: DeviceRow
    tables: tuple[TableSummary, ...]
    runs: tuple[StoredRun, ...]
    paging: Paging


def view_devices(store: Store, facts: FactsReader, now: datetime, page: int) -> DevicesView:
    """One page of all devices."""
    shown, paging = part(sorted(store.devices.list(), key=lambda one: one.last_seen_at, reverse=True), page, DEVICES)
    tables: dict[str, list[TableSummary]] = {}
    for table in store.tables.list():
        tables.setdefault(table.device, []).append(table)
    rows = (_row(one, store.runs.find_newest(one.name), tables.get(one.name, []), facts, now) for one in shown)
    return DevicesView(tuple(rows), paging)


def view_device(store: Store, facts: FactsReader, now: datetime, name: str, page: int) -> DeviceView:
    """One device.

    Raises:
        NotFound: unknown_device.
    """
    device, tables = store.devices.get(name), store.tables.list(name)
    runs, paging = part(store.runs.list(name)[::-1], page)
    row = _row(device, store.runs.find_newest(name), tables, facts, now)
    return DeviceView(row, tables[::-1], runs, paging)


def _row(
    device: Device,
    newest: StoredRun | None,
    tables: tuple[TableSummary, ...] | list[TableSummary],
    facts: FactsReader,
    now: datetime,
) -> DeviceRow:
    table = tables[-1] if tables else None
    of_run = newest.table if newest else None
    verdict = _verdict(facts.get(of_run)) if of_run else None
    known = facts.get(table.hash) if table else None
    return DeviceRow(
        device,
        _health(device, known, now),
        newest,
        table,
        len(tables),
        verdict,
        tuple(_missing(device, newest, known, verdict)),
    )


def _health(device: Device, facts: TableFacts | None, now: datetime) -> str:
    if facts is not None and facts.source is not None and device.last_asked_at is None:
        return "imported"
    if _age_s(device.last_asked_at, now) <= WORKING_S:
        return "working"
    return "seen" if _age_s(device.last_seen_at, now) <= RECENT_S else "silent"


def _age_s(moment: str | None, now: datetime) -> float:
    return float("inf") if moment is None else (now - datetime.fromisoformat(moment)).total_seconds()


def _verdict(facts: TableFacts) -> TableVerdict:
    reasons = Counter(reason for price in facts.prices if not price.stable for reason in price.reasons)
    stable = sum(price.stable for price in facts.prices)
    return TableVerdict(len(facts.prices), stable, tuple(reason for reason, _ in reasons.most_common(5)))


def _missing(
    device: Device, newest: StoredRun | None, facts: TableFacts | None, verdict: TableVerdict | None
) -> list[str]:
    if facts is None:
        unfinished = f"; run {newest.run.id} is not finished" if newest and not newest.finished else ""
        command = profile_command(device.name, make_space("nas-bench-201"))
        return [f"no latency table yet{unfinished}; measure one with: {command}"]
    if facts.source is not None:
        return [f"its table was imported from {facts.source}: no agent can verify what it says"]
    found = []
    if newest is not None and not newest.finished:
        found.append(f"run {newest.run.id} is not finished: it has {newest.measurements} measurements and no table")
    if facts.held_out is None:
        found.append("its newest table has no held-out error: nobody knows how well it predicts networks")
    if facts.kernels is None:
        found.append("its newest table has no kernel prices: bounds are made of op prices, and wider")
    if verdict is not None and verdict.stable < verdict.ops:
        found.append(f"{verdict.ops - verdict.stable} of {verdict.ops} ops were not measured stably")
    if device.last_asked_at is None:
        found.append(
            f"no agent ever asked for its work, so nothing can be verified: "
            f"profiler-agent work --server URL --device {device.name}"
        )
    return found
