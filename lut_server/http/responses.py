"""What the routes answer with: always an object, its fields named after what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Response

from lut_server.store.values import Device, ModelSummary, StoredRun, StoredSearch, TableSummary
from shared.device_status import DeviceStatus
from shared.jobs import Job, JobResult
from shared.measurements.measurement import Measurement
from shared.measurements.plan import Plan
from shared.wire import canonical_json


@dataclass(frozen=True)
class Health:
    """The process runs."""

    status: str


@dataclass(frozen=True)
class Readiness:
    """The database takes writes, at this schema revision."""

    status: str
    schema: str


@dataclass(frozen=True)
class TokenAnswer:
    """What the caller may do: a role, and the one device that it is bound to."""

    role: str
    device: str | None


@dataclass(frozen=True)
class DeviceAnswer:
    """One device, as registered."""

    device: Device


@dataclass(frozen=True)
class DeviceWithTables:
    """One device and the tables that there are of it."""

    name: str
    probe: dict[str, str]
    created_at: str
    last_seen_at: str
    last_asked_at: str | None
    status: DeviceStatus | None
    status_at: str | None
    tables: tuple[TableSummary, ...]


@dataclass(frozen=True)
class DeviceDetailAnswer:
    """One device with its tables."""

    device: DeviceWithTables


@dataclass(frozen=True)
class DevicesAnswer:
    """All devices."""

    devices: tuple[Device, ...]


@dataclass(frozen=True)
class PlanAnswer:
    """What a profiling run measures."""

    plan: Plan


@dataclass(frozen=True)
class ModelAnswer:
    """An uploaded model."""

    model: ModelSummary


@dataclass(frozen=True)
class RunsAnswer:
    """Runs, the oldest first."""

    runs: tuple[StoredRun, ...]


@dataclass(frozen=True)
class MeasurementsAnswer:
    """Measurements with their raw values."""

    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class KernelsAnswer:
    """Kernel counts by genotype."""

    counts: dict[str, dict[str, int]]


@dataclass(frozen=True)
class TableAnswer:
    """The table that a run made."""

    table: TableSummary


@dataclass(frozen=True)
class TablesAnswer:
    """Tables, the oldest first."""

    tables: tuple[TableSummary, ...]


@dataclass(frozen=True)
class ImportedAnswer:
    """What became of an imported file: its tables, the new ones and those that were there already."""

    imported: tuple[TableSummary, ...]
    known: tuple[TableSummary, ...]


@dataclass(frozen=True)
class ArchiveAnswer:
    """How many things of an archive were new, and how many were there already, by kind."""

    stored: dict[str, int]
    known: dict[str, int]


@dataclass(frozen=True)
class JobAnswer:
    """One job."""

    job: Job


@dataclass(frozen=True)
class LeaseAnswer:
    """A leased job, or null where there is nothing to do."""

    job: Job | None


@dataclass(frozen=True)
class JobsAnswer:
    """Jobs, the oldest first."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class SearchesAnswer:
    """The newest posting of each search, the oldest first."""

    searches: tuple[StoredSearch, ...]


@dataclass(frozen=True)
class ResultAnswer:
    """What was handed in for a job, raw values and all; null before that."""

    result: JobResult | None


@dataclass(frozen=True)
class Problem:
    """Why a request failed."""

    code: str
    message: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class ErrorAnswer:
    """The one shape of every error."""

    error: Problem


def answer(value: object, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(canonical_json(value), status_code=status, media_type="application/json")


def answer_bytes(
    content: bytes, etag: str, media_type: str, if_none_match: str | None, more: Mapping[str, str] | None = None
) -> Response:
    """Bytes that an ETag names; 304 without them where the client has them already."""
    if matches(etag, if_none_match):
        return not_modified(etag)
    return Response(content, media_type=media_type, headers=_named(etag, more))


def not_modified(etag: str) -> Response:
    """The client has what the ETag names."""
    return Response(status_code=304, headers=_named(etag))


def _named(etag: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {"ETag": f'"{etag}"', "Cache-Control": "no-cache", **(more or {})}


def matches(etag: str, if_none_match: str | None) -> bool:
    """Whether an If-None-Match header names the ETag."""
    offered: Sequence[str] = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    return "*" in offered or f'"{etag}"' in offered
