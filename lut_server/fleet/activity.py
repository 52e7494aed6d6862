"""Whether an agent works on a device, and at what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lut_server.store.values import Device, StoredRun
from shared.device_status import CampaignProgress
from shared.jobs import Job

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
