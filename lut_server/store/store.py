"""What the server keeps, as interfaces. `lut_server.store.sql` is the implementation.

The contract of every method, whichever database is behind it (`tests/server/test_store.py` holds both to it):

* Values go in and out as frozen dataclasses; a row, a connection or a session never leaves.
* Each method is one transaction: all of it happens, or nothing. Any thread may call any method, and so may any number
  of servers on one database.
* `get_x` raises NotFound (with the code of the missing thing), `find_x` returns None.
* What was uploaded is never changed. The same identity with the same content is stored once; with other content it
  raises Conflict and stores nothing.
* Lists come in the order in which things were stored.
* Moments are given by the store's clock and read as `lut_server.clock.stamp` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.device_status import DeviceStatus
from shared.jobs import Job, JobResult, NewJob, Verification
from shared.measurements.measurement import Measurement, Run
from shared.search_result import SearchResult
from shared.tables.table import HeldOutError, LatencyTable


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
    """A run, how many measurements it has, and the hash of the table that came of it once it is finished.

    `raw_dropped_at` says when its raw repeats were given up (`lut-server vacuum`); the quantile of each round stays.
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
    """A one-time code without the code; `token` is the id of the token that was given for it, once it was used."""

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


class DeviceStore(Protocol):
    """Devices by name."""

    def register(self, name: str, probe: dict[str, str]) -> tuple[Device, bool]:
        """Add a device, or renew the probe of a known one. Returns it and whether it is new."""

    def get(self, name: str) -> Device:
        """The device (unknown_device: the message lists the known ones)."""

    def touch(self, name: str) -> None:
        """Note that the device was heard of now; an unknown one is not noted."""

    def report(self, name: str, status: DeviceStatus) -> Device:
        """Keep what the device's agent says of it now, in place of what it said before (unknown_device)."""

    def list(self) -> tuple[Device, ...]:
        """All devices."""


class RunStore(Protocol):
    """Runs with their measurements."""

    def put(self, run: Run) -> bool:
        """Store a run; False if it was there already (unknown_device, conflict)."""

    def get(self, run_id: str) -> StoredRun:
        """The run (unknown_run)."""

    def get_run(self, run_id: str) -> Run:
        """The run without what became of it (unknown_run): counting its measurements takes time."""

    def list(self, device: str | None = None) -> tuple[StoredRun, ...]:
        """All runs, of one device if given."""

    def find_newest(self, device: str) -> StoredRun | None:
        """The run of the device that was stored last."""

    def add_measurements(self, run_id: str, batch: Sequence[Measurement]) -> Stored:
        """Store a batch (unknown_run; conflict: known id with other content, or a new id in a finished run)."""

    def drop_raw(self, finished_before: str) -> tuple[int, int]:
        """Give up the raw repeats of runs that were finished and started before a moment: runs and measurements.

        One value a round stays, the quantile that every statistic and every table is made of: both come out the same.
        """

    def measurements(self, run_id: str) -> tuple[Measurement, ...]:
        """Every measurement of the run with its raw values (unknown_run)."""

    def measured_kernels(self, run_id: str) -> tuple[Measurement, ...]:
        """Those of the run's measurements that are of single kernels."""

    def count_roles(self, run_id: str) -> dict[str, int]:
        """How many measurements of each role the run has, roles without any too (unknown_run)."""

    def find_canary_nominal(self, device: str, runtime: str, canary: str) -> float | None:
        """The unit of the device's milliseconds, if a finished run has set it."""

    def finish(self, run_id: str, table: LatencyTable) -> TableSummary:
        """Store the run's table and, with a device's first one, the canary's nominal time.

        A run that is finished already keeps the table it has. Conflict: the table was made with another nominal time
        than the one that another run has set meanwhile.
        """


class KernelStore(Protocol):
    """Kernel counts of graphs, by device and runtime. The newest counts of a graph hold: a device may be replaced."""

    def put(self, device: str, runtime: str, counts: Mapping[str, Mapping[str, int]]) -> Stored:
        """Store counts by graph reference (unknown_device)."""

    def of_graphs(self, device: str, runtime: str, graphs: Sequence[str]) -> dict[str, dict[str, int]]:
        """Counts by graph reference, of those graphs that are known."""

    def of_space(self, device: str, runtime: str, space: str) -> dict[str, dict[str, int]]:
        """Counts of the known networks of a space, by genotype."""


class TableStore(Protocol):
    """Latency tables: the same hash always means the same bytes."""

    def get_bytes(self, table_hash: str) -> bytes:
        """Canonical JSON of the table (no_table)."""

    def put_imported(self, table: LatencyTable) -> bool:
        """Store a table that no run made, and its device where that is unknown; False if it was there already."""

    def find(self, device: str, space: str = "", runtime: str | None = None) -> TableSummary | None:
        """The newest table of the device whose space is `space` or begins with its parts.

        A measured table goes before every imported one.
        Without a runtime a table of fp32 goes before those of other precisions: who says nothing means plain networks.
        """

    def list(self, device: str | None = None) -> tuple[TableSummary, ...]:
        """All tables, of one device if given."""


class ModelStore(Protocol):
    """Uploaded ONNX files by their SHA-256."""

    def put(self, sha256: str, content: bytes) -> bool:
        """Store a file; False if it was there already."""

    def get(self, sha256: str) -> bytes:
        """The file (unknown_model)."""

    def has(self, sha256: str) -> bool:
        """Whether it is there."""


class JobStore(Protocol):
    """The queue. A job is queued, leased, and then done, failed, dead or cancelled.

    Each lease is an attempt. A lease that ran out, or whose owner asks for work again, frees the job; after
    `max_attempts` leases it is dead. Every method first frees the leases that have run out. However many servers and
    threads ask, a job is leased to one owner at a time.
    """

    def add(self, job: NewJob) -> Job:
        """Queue a job (unknown_device)."""

    def get(self, job_id: str) -> Job:
        """The job (unknown_job)."""

    def list(self, device: str | None = None, state: str | None = None) -> tuple[Job, ...]:
        """All jobs, of one device or in one state if given."""

    def add_once(self, job: NewJob) -> tuple[Job, bool]:
        """Queue a job unless the very same one is queued or leased: the job, and whether it is new (unknown_device)."""

    def lease(self, device: str, owner: str, lease_s: float, status: DeviceStatus | None = None) -> Job | None:
        """The queued job of the device with the highest priority, then the oldest, leased to `owner`.

        None if there is none (unknown_device). `status` is kept as the device's.
        """

    def heartbeat(self, job_id: str, owner: str, lease_s: float, status: DeviceStatus | None = None) -> Job:
        """Extend a lease, and keep `status` as the device's (unknown_job; conflict: it is not the owner's any more)."""

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that is not over (unknown_job; conflict: it is done, failed or dead)."""

    def requeue(self, job_id: str) -> Job:
        """Queue a failed, dead or cancelled job again, with all its attempts (unknown_job; conflict: any other)."""

    def complete(self, job_id: str, result: JobResult, verification: Verification | None) -> Job:
        """Take a result, late ones too: from a lost lease, and after the attempts were used up.

        The same result again changes nothing; another one is a conflict, and so is one for a cancelled job.
        """

    def find_result(self, job_id: str) -> JobResult | None:
        """What was handed in, raw values and all (unknown_job)."""


class SearchStore(Protocol):
    """What searches found. A search may be posted again, with its ladder: the newest posting stands for it."""

    def put(self, result: SearchResult) -> bool:
        """Store a posting; False if the same one was there already (unknown_device)."""

    def get(self, search: str) -> StoredSearch:
        """The newest posting of a search (unknown_search)."""

    def list(self, device: str | None = None) -> tuple[StoredSearch, ...]:
        """The newest posting of each search, of one device if given."""


class TokenStore(Protocol):
    """Tokens by id. A secret is never stored, only what it is checked against."""

    def add(self, record: TokenRecord) -> None:
        """Store a token."""

    def find(self, token_id: str) -> TokenRecord | None:
        """The token, revoked or not."""

    def touch(self, token_id: str) -> None:
        """Note that the token was used now."""

    def revoke(self, token_id: str) -> TokenSummary:
        """Revoke a token; again changes nothing (not_found)."""

    def list(self) -> tuple[TokenSummary, ...]:
        """All tokens, revoked ones too."""


class PairingStore(Protocol):
    """One-time codes, one a device. A day after their end they are cleared, used ones too."""

    def put(self, pairing: Pairing, digest: bytes) -> None:
        """Store a device's code in place of the one before it."""

    def find(self, device: str) -> PairingRecord | None:
        """The device's last code, used or not."""

    def redeem(self, device: str, digest: bytes, token: TokenRecord) -> bool:
        """Use the code up and store the token that is given for it; False where it is used, ended or another one.

        However many come at once with the same code, one of them is served.
        """

    def end(self, device: str) -> bool:
        """End the device's code; False where there is no unused one."""

    def list(self) -> tuple[Pairing, ...]:
        """All codes."""


@dataclass(frozen=True)
class ArchiveRecord:
    """One thing of a store as JSON values; `where` names its place in the file that it was read from."""

    kind: str
    fields: dict[str, Any]
    where: str = "archive"


@dataclass(frozen=True)
class Loaded:
    """How many records of each kind were new, and how many were there already."""

    stored: dict[str, int]
    known: dict[str, int]


class ArchiveStore(Protocol):
    """Everything but tokens and pairing codes, as records whose order and content are the same for the same content."""

    def records(self) -> Iterator[ArchiveRecord]:
        """All records, of one moment; one of each kind refers to kinds before it only."""

    def load(self, records: Iterable[ArchiveRecord]) -> Loaded:
        """Store all records, or none where reading them raises; what is there already is passed over.

        Raises:
            Conflict: something else is here under a record's name. Moments, leases and a device's probe may differ.
            CorruptFile: a record does not fit the store.
        """


class Store(Protocol):
    """Everything that the server keeps."""

    @property
    def devices(self) -> DeviceStore:
        """Devices by name."""

    @property
    def runs(self) -> RunStore:
        """Runs with their measurements."""

    @property
    def kernels(self) -> KernelStore:
        """Kernel counts."""

    @property
    def tables(self) -> TableStore:
        """Latency tables."""

    @property
    def models(self) -> ModelStore:
        """Uploaded ONNX files."""

    @property
    def jobs(self) -> JobStore:
        """The job queue."""

    @property
    def searches(self) -> SearchStore:
        """What searches found."""

    @property
    def tokens(self) -> TokenStore:
        """Access tokens."""

    @property
    def pairings(self) -> PairingStore:
        """One-time codes."""

    @property
    def archive(self) -> ArchiveStore:
        """Everything at once."""

    def revision(self) -> str:
        """Schema revision of the store."""

    def check_ready(self) -> str:
        """Schema revision of a store that takes writes right now (unavailable, or the database's own error)."""

    def close(self) -> None:
        """Give up all connections."""
