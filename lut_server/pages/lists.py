"""Devices, searches and jobs, a page at a time: no page gets longer with what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from lut_server.fleet.rows import DeviceRow, Fleet
from lut_server.store.sql import Store
from lut_server.store.values import StoredRun, StoredSearch, TableSummary
from lut_server.tables.table_facts import FactsReader
from shared.errors import InvalidValue
from shared.jobs import JOB_STATES, Job

T = TypeVar("T")

ROWS = 50


@dataclass(frozen=True)
class Paging:
    """Page `number` of `pages` is shown, of `total` rows in all."""

    number: int
    pages: int
    total: int


def paginate(rows: Sequence[T], number: int, size: int = ROWS) -> tuple[tuple[T, ...], Paging]:
    """The rows of a page; a number beyond the last page means the last page."""
    paging = place(len(rows), number, size)
    return tuple(rows[(paging.number - 1) * size : paging.number * size]), paging


def place(total: int, number: int, size: int = ROWS) -> Paging:
    """Where a page is; a number beyond the last page means the last page."""
    pages = max(1, -(-total // size))
    return Paging(min(max(number, 1), pages), pages, total)


DEVICES = 20


@dataclass(frozen=True)
class DevicesView:
    """One page of the devices; the device seen last comes first."""

    devices: tuple[DeviceRow, ...]
    paging: Paging


@dataclass(frozen=True)
class DeviceView:
    """A device with its tables and runs, the newest first."""

    row: DeviceRow
    tables: tuple[TableSummary, ...]
    runs: tuple[StoredRun, ...]
    paging: Paging


def view_devices(store: Store, facts: FactsReader, now: datetime, page: int) -> DevicesView:
    fleet = Fleet(store, facts, now)
    shown, paging = paginate(fleet.devices(), page, DEVICES)
    return DevicesView(tuple(map(fleet.row, shown)), paging)


def view_device(store: Store, facts: FactsReader, now: datetime, name: str, page: int) -> DeviceView:
    """A device with a page of its runs.

    Raises:
        NotFound: unknown_device.
    """
    device, fleet = store.devices.get(name), Fleet(store, facts, now)
    paging = place(store.runs.count(name), page)
    runs = store.runs.list(name, newest_first=True, offset=(paging.number - 1) * ROWS, limit=ROWS)
    return DeviceView(fleet.row(device), fleet.tables(name)[::-1], runs, paging)


@dataclass(frozen=True)
class SearchesView:
    """One page of the searches, the newest first."""

    searches: tuple[StoredSearch, ...]
    paging: Paging


@dataclass(frozen=True)
class SearchView:
    """A search. `has_table`: this server has the table that it used."""

    found: StoredSearch
    has_table: bool


def view_searches(store: Store, page: int) -> SearchesView:
    paging = place(store.searches.count(), page)
    return SearchesView(
        store.searches.list(None, newest_first=True, offset=(paging.number - 1) * ROWS, limit=ROWS), paging
    )


def view_search(store: Store, search: str) -> SearchView:
    """A search.

    Raises:
        NotFound: unknown_search.
    """
    found = store.searches.get(search)
    hashes = {table.hash for table in store.tables.list(found.result.device)}
    return SearchView(found, found.result.table_hash in hashes)


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
    counts = sum(store.jobs.counts().values(), Counter())
    paging = place(counts[state] if state else counts.total(), page)
    shown = store.jobs.list(None, state or None, newest_first=True, offset=(paging.number - 1) * ROWS, limit=ROWS)
    rows = tuple(JobRow(job, _says(job)) for job in shown)
    states = {name: counts[name] for name in JOB_STATES}
    return JobsView(state or None, states, store.jobs.unserved(), rows, paging)


def _says(job: Job) -> str | None:
    if job.verification is not None and job.job.promise is not None:
        found = job.verification
        met = f"{'met' if found.met else 'missed'} {job.job.promise.target_ms:.4g} ms"
        state = "" if found.state is None else f", state {found.state:.3f}"
        return f"{met}: measured {found.measured_ms:.4g} ms ({found.low_ms:.4g} to {found.high_ms:.4g}){state}"
    if job.state == "done" and job.run is not None:
        return f"run {job.run}"
    return job.reason or job.notice
