"""Devices at a glance, for the pages, their JSON twins and `lut-server devices`: health, activity, gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lut_server.fleet.gaps import Gap, GapFinder
from lut_server.store.sql import Store
from lut_server.store.values import Device, StoredRun, TableSummary
from lut_server.tables.table_facts import FactsReader, TableFacts
from shared.device_status import CampaignProgress, DeviceStatus
from shared.jobs import Job
from shared.spaces import make_space
from shared.tables.table import profile_command

ALIVE_S = 60.0
"""Agents ask for work every few seconds; a busy agent reports three times a minute."""
RECENT_S = 86_400.0


@dataclass(frozen=True)
class Activity:
    """What a device is doing.

    Attributes:
        job: leased by an agent.
        measured, tasks: progress of a campaign, if its agent reports it.
    """

    says: str
    job: str | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    measured: int | None = None
    tasks: int | None = None


def age_s(moment: str | None, now: datetime) -> float:
    """Seconds since a moment; infinite for None."""
    return float("inf") if moment is None else (now - datetime.fromisoformat(moment)).total_seconds()


def get_health(device: Device, imported: bool, now: datetime) -> str:
    """`alive` (seen within a minute), `seen` (within a day), `silent`, or `imported` (no agent)."""
    if imported and device.last_asked_at is None:
        return "imported"
    since_s = age_s(device.last_seen_at, now)
    if since_s <= ALIVE_S:
        return "alive"
    return "seen" if since_s <= RECENT_S else "silent"


def get_activity(device: Device, health: str, job: Job | None, newest_run: StoredRun | None, now: datetime) -> Activity:
    """What a device is doing, by its leased job, its status reports, and its uploads."""
    campaign = _find_campaign(device, newest_run, now)
    far = f": {campaign.measured} of {campaign.tasks} measured" if campaign else ""
    measured, tasks = (campaign.measured, campaign.tasks) if campaign else (None, None)
    if job is not None:
        says = f"job {job.id[:8]}, {job.job.kind} of {job.job.space}, attempt {job.attempts} of {job.max_attempts}{far}"
        return Activity(says, job.id, job.attempts, job.max_attempts, measured, tasks)
    if campaign is not None:
        return Activity(f"profile of {', '.join(campaign.spaces)}{far}", measured=measured, tasks=tasks)
    if health == "alive" and newest_run is not None and not newest_run.finished:
        return Activity(f"run {newest_run.run.id}: {newest_run.measurements} measurements so far")
    if health == "alive":
        return Activity("idle")
    return Activity("nothing: no agent" if health == "imported" else "unknown")


def _find_campaign(device: Device, newest_run: StoredRun | None, now: datetime) -> CampaignProgress | None:
    """The campaign under way: reported within a minute, and not finished since."""
    campaign = device.status.campaign if device.status else None
    if campaign is None or age_s(device.status_at, now) > ALIVE_S:
        return None
    is_over = newest_run is not None and newest_run.finished and newest_run.run.id in campaign.runs
    return None if is_over else campaign


@dataclass(frozen=True)
class TableVerdict:
    """How many ops of a table are stable; reasons of the others, the most frequent first."""

    ops: int
    stable: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class DeviceRow:
    """A device at a glance.

    Attributes:
        health: as `get_health` gives it.
        problems: what disturbs measuring now; None: its agent reported nothing within a minute.
        queued: number of jobs that wait for it.
        verdict: of the newest run, if that is finished.
        missing: the gaps and what else is missing, as sentences.
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
    """All devices as they are at the moment `now`."""

    def __init__(self, store: Store, facts: FactsReader, now: datetime) -> None:
        self._store, self._facts, self._now = store, facts, now
        self._tables: dict[str, list[TableSummary]] = {}
        tables = store.tables.list()
        for table in tables:
            self._tables.setdefault(table.device, []).append(table)
        self._gaps = GapFinder(store, facts, tables)
        self._leased = {job.job.device: job for job in store.jobs.list(state="leased")}
        self._queued = Counter({device: states["queued"] for device, states in store.jobs.counts().items()})

    def devices(self) -> list[Device]:
        """All, the device seen last first."""
        return sorted(self._store.devices.list(), key=lambda device: device.last_seen_at, reverse=True)

    def tables(self, name: str) -> tuple[TableSummary, ...]:
        """Tables of a device, the oldest first."""
        return tuple(self._tables.get(name, ()))

    def row(self, device: Device) -> DeviceRow:
        tables, newest = self.tables(device.name), self._store.runs.find_newest(device.name)
        of_run = newest.table if newest else None
        verdict = _verdict(self._facts.get(of_run)) if of_run else None
        known = self._facts.get(tables[-1].hash) if tables else None
        health = get_health(device, known is not None and known.source is not None, self._now)
        gaps = () if health == "imported" else self._gaps.find(device.name, tables, newest)
        return DeviceRow(
            device,
            health,
            get_activity(device, health, self._leased.get(device.name), newest, self._now),
            self._problems(device, tables),
            self._queued[device.name],
            newest,
            tables[-1] if tables else None,
            len(tables),
            verdict,
            gaps,
            tuple(_missing(device, gaps, known, verdict)),
        )

    def _problems(self, device: Device, tables: Sequence[TableSummary]) -> tuple[str, ...] | None:
        """What is wrong now; a table that no longer holds stays so until it is measured anew."""
        status = device.status
        if status is None:
            return None
        newest = {(table.space, table.runtime): table.hash for table in tables}
        if status.check is not None and status.check.table not in newest.values():
            status = replace(status, check=None)
        if age_s(device.status_at, self._now) <= ALIVE_S:
            return status.problems()
        return DeviceStatus(check=status.check).problems() or None


def _verdict(facts: TableFacts) -> TableVerdict:
    reasons = Counter(reason for price in facts.prices if not price.stable for reason in price.reasons)
    stable = sum(price.stable for price in facts.prices)
    return TableVerdict(len(facts.prices), stable, tuple(reason for reason, _ in reasons.most_common(5)))


def _missing(
    device: Device, gaps: tuple[Gap, ...], facts: TableFacts | None, verdict: TableVerdict | None
) -> list[str]:
    if facts is None:
        command = profile_command(device.name, make_space("nas-bench-201"))
        return [f"no latency table yet; to measure: {command}", *(gap.says for gap in gaps)]
    if facts.source is not None and not gaps:
        return [f"its table was imported from {facts.source}: no agent can verify it"]
    found = [gap.says for gap in gaps]
    if verdict is not None and verdict.stable < verdict.ops:
        found.append(f"{verdict.ops - verdict.stable} of {verdict.ops} ops were not measured stably")
    if device.last_asked_at is None:
        found.append(
            "no agent asks for its jobs, so nothing can be verified; start one with:"
            f" profiler-agent work --lut-url URL --device {device.name}"
        )
    return found
