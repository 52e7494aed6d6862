"""The job queue as it is now, the newest first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lut_server.pages.paging import Paging, part
from lut_server.store.sql import Store
from shared.errors import InvalidValue
from shared.jobs import JOB_STATES, Job


@dataclass(frozen=True)
class JobRow:
    """A job at a glance. `says` is what became of it, or what keeps it from being done."""

    id: str
    device: str
    kind: str
    state: str
    priority: int
    attempts: int
    max_attempts: int
    created_at: str
    lease_owner: str | None
    lease_until: str | None
    says: str | None


@dataclass(frozen=True)
class JobsView:
    """One page of the jobs.

    Attributes:
        state: the only state that is shown; None: all.
        states: how many jobs are in each.
        unserved: devices with queued jobs that no agent asks for.
    """

    state: str | None
    states: dict[str, int]
    unserved: tuple[str, ...]
    jobs: tuple[JobRow, ...]
    paging: Paging


def view_jobs(store: Store, state: str | None, page: int) -> JobsView:
    """One page of the jobs, of one state if given.

    Raises:
        InvalidValue: there is no such state.
    """
    if state and state not in JOB_STATES:
        raise InvalidValue("state", f"'{state[:40]}' is none of {', '.join(JOB_STATES)}")
    every = store.jobs.list()
    counts = Counter(one.state for one in every)
    wanted = [one for one in reversed(every) if not state or one.state == state]
    shown, paging = part(wanted, page)
    unserved = sorted({one.job.device for one in every if one.notice})
    states = {name: counts[name] for name in JOB_STATES}
    return JobsView(state or None, states, tuple(unserved), tuple(map(_row, shown)), paging)


def _row(job: Job) -> JobRow:
    return JobRow(
        job.id,
        job.job.device,
        job.job.kind,
        job.state,
        job.job.priority,
        job.attempts,
        job.max_attempts,
        job.created_at,
        job.lease_owner,
        job.lease_until,
        _says(job),
    )


def _says(job: Job) -> str | None:
    if job.verification is not None and job.job.promise is not None:
        found, target_ms = job.verification, job.job.promise.target_ms
        met = "met" if found.met else "missed"
        return (
            f"{met} {target_ms:.4g} ms: measured {found.measured_ms:.4g} ms ({found.low_ms:.4g} to {found.high_ms:.4g})"
        )
    if job.state == "done" and job.run is not None:
        return f"run {job.run}"
    return job.reason or job.notice
