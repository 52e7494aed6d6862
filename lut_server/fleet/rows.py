"""Devices at a glance: for the pages, their JSON twins and `lut-server devices`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lut_server.fleet.activity import ALIVE_S, Activity, age_s, find_activity, find_health
from lut_server.fleet.gaps import Gap, GapFinder
from lut_server.store.sql import Store
from lut_server.store.values import Device, StoredRun, TableSummary
from lut_server.tables.table_facts import FactsReader, TableFacts
from shared.jobs import Job
from shared.spaces import make_space
from shared.tables.table import profile_command


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
        health: "alive" (its agent was heard of within a minute), "seen" (within a day), "silent", or "imported".
        activity: what it is doing.
        problems: what is wrong with measuring there right now; None: its agent said nothing within a minute.
        queued: jobs that wait for it.
        verdict: of the newest run, once it is finished.
        gaps: what is missing from which table.
        missing: the same and what else a user would miss, as sentences.
    """

    device: Device
    health: str
    activity: Activity
    problems: tuple[str, ...] | None
    queued: int
    newest_run: StoredRun | None
    newest_table: TableSummary | None
    tables: int
    verdict: TableVerdict | None
    gaps: tuple[Gap, ...]
    missing: tuple[str, ...]


class Fleet:
    """All devices as they are now.

    Args:
        now: the moment that ages are told from.
    """

    def __init__(self, store: Store, facts: FactsReader, now: datetime) -> None:
        self._store, self._facts, self._now = store, facts, now
        self._tables: dict[str, list[TableSummary]] = {}
        every = store.tables.list()
        for table in every:
            self._tables.setdefault(table.device, []).append(table)
        self._gaps = GapFinder(store, facts, every)
        self._leased = _by_device(store.jobs.list(state="leased"))
        self._queued = _by_device(store.jobs.list(state="queued"))

    def devices(self) -> list[Device]:
        """Those heard of last first."""
        return sorted(self._store.devices.list(), key=lambda one: one.last_seen_at, reverse=True)

    def tables(self, name: str) -> tuple[TableSummary, ...]:
        """Of a device, the oldest first."""
        return tuple(self._tables.get(name, ()))

    def row(self, device: Device) -> DeviceRow:
        """One of the devices."""
        tables, newest = self.tables(device.name), self._store.runs.find_newest(device.name)
        of_run = newest.table if newest else None
        verdict = _verdict(self._facts.get(of_run)) if of_run else None
        known = self._facts.get(tables[-1].hash) if tables else None
        health = find_health(device, known is not None and known.source is not None, self._now)
        gaps = () if health == "imported" else self._gaps.find(device.name, tables, newest)
        leased = self._leased.get(device.name, [])
        return DeviceRow(
            device,
            health,
            find_activity(device, health, leased, newest, self._now),
            self._problems(device),
            len(self._queued.get(device.name, [])),
            newest,
            tables[-1] if tables else None,
            len(tables),
            verdict,
            gaps,
            tuple(_missing(device, gaps, known, verdict)),
        )

    def _problems(self, device: Device) -> tuple[str, ...] | None:
        if device.status is None or age_s(device.status_at, self._now) > ALIVE_S:
            return None
        return device.status.problems()


def _by_device(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for one in jobs:
        found.setdefault(one.job.device, []).append(one)
    return found


def _verdict(facts: TableFacts) -> TableVerdict:
    reasons = Counter(reason for price in facts.prices if not price.stable for reason in price.reasons)
    stable = sum(price.stable for price in facts.prices)
    return TableVerdict(len(facts.prices), stable, tuple(reason for reason, _ in reasons.most_common(5)))


def _missing(
    device: Device, gaps: tuple[Gap, ...], facts: TableFacts | None, verdict: TableVerdict | None
) -> list[str]:
    if facts is None:
        command = profile_command(device.name, make_space("nas-bench-201"))
        return [f"no latency table yet; measure one with: {command}", *(gap.says for gap in gaps)]
    if facts.source is not None and not gaps:
        return [f"its table was imported from {facts.source}: no agent can verify what it says"]
    found = [gap.says for gap in gaps]
    if verdict is not None and verdict.stable < verdict.ops:
        found.append(f"{verdict.ops - verdict.stable} of {verdict.ops} ops were not measured stably")
    if device.last_asked_at is None:
        found.append(
            f"no agent ever asked for its work, so nothing can be verified: "
            f"profiler-agent work --lut-url URL --device {device.name}"
        )
    return found
