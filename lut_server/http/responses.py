"""What the routes answer with: always an object, its fields named after what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send

from lut_server.http.answer_cache import MadeAnswer
from lut_server.store.values import Device, ModelSummary, StoredRun, StoredSearch, TableSummary
from shared.jobs import Job, JobResult
from shared.measurements.measurement import Measurement
from shared.measurements.plan import Plan
from shared.wire import canonical_json

PIECE_BYTES = 65_536


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
    """What the caller may do: a role, and the only device that it sees."""

    role: str
    device: str | None


@dataclass(frozen=True)
class DeviceAnswer:
    """One device, as registered."""

    device: Device


@dataclass(frozen=True)
class DeviceWithTables(Device):
    """A device and its tables."""

    tables: tuple[TableSummary, ...] = ()


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
    """The tables of an imported file: the new, and those that were there already."""

    imported: tuple[TableSummary, ...]
    known: tuple[TableSummary, ...]


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
    """The shape of every error."""

    error: Problem


def answer(value: object, status: int = 200) -> Response:
    return Response(canonical_json(value), status_code=status, media_type="application/json")


class PiecesOf(Response):
    """A response whose body is sent as it is read: nothing that waits for its reader is copied."""

    def __init__(self, made: MadeAnswer, response: Response) -> None:
        self.made, self.status_code, self.raw_headers = made, response.status_code, response.raw_headers
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        content = memoryview(self.made.content)
        for start in range(0, len(content), PIECE_BYTES):
            piece = content[start : start + PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def answer_bytes(content: bytes, etag: str, media_type: str, if_none_match: str | None) -> Response:
    """Bytes that an ETag names; 304 without them where the client has them already."""
    headers = {"ETag": f'"{etag}"', "Cache-Control": "no-cache"}
    offered = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    if "*" in offered or headers["ETag"] in offered:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
