"""The job queue as it is now, the newest first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lut_server.pages.paging import Paging, paginate
from lut_server.store.sql import Store
from shared.errors import InvalidValue
from shared.jobs import JOB_STATES, Job


@dataclass(frozen=True)
class JobRow:
    """A job. `says`: its result, or why nobody does it."""

    job: Job
    says: str | None


@dataclass(frozen=True)
class JobsView:
    """One page of the jobs.

    Attributes:
        state: the only state that is shown; None: all.
        states: number of jobs by state.
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
    jobs = store.jobs.list()
    counts = Counter(job.state for job in jobs)
    shown, paging = paginate([job for job in reversed(jobs) if not state or job.state == state], page)
    unserved = tuple(sorted({job.job.device for job in jobs if job.notice}))
    rows = tuple(JobRow(job, _says(job)) for job in shown)
    return JobsView(state or None, {name: counts[name] for name in JOB_STATES}, unserved, rows, paging)


def _says(job: Job) -> str | None:
    if job.verification is not None and job.job.promise is not None:
        found = job.verification
        met = f"{'met' if found.met else 'missed'} {job.job.promise.target_ms:.4g} ms"
        return f"{met}: measured {found.measured_ms:.4g} ms ({found.low_ms:.4g} to {found.high_ms:.4g})"
    if job.state == "done" and job.run is not None:
        return f"run {job.run}"
    return job.reason or job.notice
