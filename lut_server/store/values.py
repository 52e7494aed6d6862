"""What the store takes and gives: frozen values (`lut_server.store.sql` keeps them)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.device_status import DeviceStatus
from shared.measurements.measurement import Run
from shared.search_result import SearchResult
from shared.tables.held_out_error import HeldOutError


@dataclass(frozen=True)
class Device:
    """A registered device.

    Attributes:
        probe: what its agent found out about it.
        last_asked_at: when an agent asked for its work, or was at it.
        status: what its agent said of it last, `status_at`.
    """

    name: str
    probe: dict[str, str]
    created_at: str
    last_seen_at: str
    last_asked_at: str | None = None
    status: DeviceStatus | None = None
    status_at: str | None = None


@dataclass(frozen=True)
class TableSummary:
    """A latency table without its content."""

    device: str
    space: str
    runtime: str
    hash: str
    created_at: str
    canary_nominal_ms: float
    held_out: HeldOutError | None


@dataclass(frozen=True)
class StoredRun:
    """A run, how many measurements it has, and the hash of the table that came of it once it is
    finished.

    `raw_dropped_at` says when its raw repeats were given up (`lut-server vacuum`); the quantile of
    each round stays.
    """

    run: Run
    measurements: int
    finished: bool
    table: str | None
    raw_dropped_at: str | None = None


@dataclass(frozen=True)
class Stored:
    """What became of a batch: how many measurements were new and how many were there already."""

    stored: int
    known: int


@dataclass(frozen=True)
class ModelSummary:
    """An uploaded ONNX file without its content."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class StoredSearch:
    """What a search found, and when it was posted."""

    created_at: str
    result: SearchResult


@dataclass(frozen=True)
class TokenSummary:
    """A token without its secret."""

    id: str
    role: str
    name: str
    device: str | None
    created_at: str
    revoked_at: str | None
    expires_at: str | None = None
    last_used_at: str | None = None


@dataclass(frozen=True)
class TokenRecord:
    """A token with what its secret is checked against."""

    summary: TokenSummary
    salt: bytes
    digest: bytes


@dataclass(frozen=True)
class Pairing:
    """A one-time code's facts without the code; `token` is the id of the token it gave."""

    device: str
    created_at: str
    expires_at: str
    token_days: float
    token: str | None = None


@dataclass(frozen=True)
class PairingRecord:
    """A pairing with what its code is checked against."""

    pairing: Pairing
    digest: bytes


@dataclass(frozen=True)
class ArchiveRecord:
    """A stored thing as JSON values; `where` names its place in the file it was read from."""

    kind: str
    fields: dict[str, Any]
    where: str = "archive"


@dataclass(frozen=True)
class Loaded:
    """How many records of each kind were new, and how many were there already."""

    stored: dict[str, int]
    known: dict[str, int]
