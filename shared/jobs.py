"""Jobs that a server gives to a device: verify a network, profile a space, count kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import LONGEST_REASON, InvalidValue
from shared.measurements.measurement import Measurement
from shared.runtime import Runtime, check_device_name

JOB_KINDS = ("verify", "profile", "count")
MOST_GENOTYPES = 2000
JOB_STATES = ("queued", "leased", "done", "failed", "dead", "cancelled")
"""failed: an agent said why the job is impossible; dead: every agent that took the job went away.
"""
OVER = ("done", "failed", "dead", "cancelled")
"""Final states."""
LARGEST_PRIORITY = 100
LONGEST_GENOTYPE = 20_000


@dataclass(frozen=True)
class Promise:
    """A search's promise for a network: its table, prediction, bound, and the budget to meet."""

    table_hash: str
    genotype: str
    predicted_ms: float
    upper_ms: float
    target_ms: float

    def __post_init__(self) -> None:
        if len(self.genotype) > LONGEST_GENOTYPE or len(self.table_hash) > LONGEST_GENOTYPE:
            raise InvalidValue("promise", f"holds a text of more than {LONGEST_GENOTYPE} characters")
        for field in ("predicted_ms", "upper_ms", "target_ms"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value > 0):
                raise InvalidValue(f"promise.{field}", f"{value} is not a positive time")


@dataclass(frozen=True)
class Reference:
    """A network of the table, timed beside the network in question: its time now tells the state.

    Attributes:
        table_ms: what the table's run measured, in milliseconds of the table's canary.
    """

    graph: str
    genotype: str
    table_ms: float


@dataclass(frozen=True)
class NewJob:
    """A job to queue.

    Attributes:
        kind: "verify": measure `graph` and compare with `promise`; "profile": make the table of the
            space; "count": list the kernels that the runtime executes for each of `genotypes`, or
            for `graph`.
        runtime: to measure with. Its version may differ from the device's; the result then says so.
        graph: reference of the graph ("verify", and "count" without genotypes).
        promise: the measured time is compared with it ("verify").
        genotypes: of the space, in its string form ("count").
        measure: first measure kernels of `graph` that the table of `space` lacks ("count").
        priority: from -100 to 100. The highest is leased first, among equals the oldest job.
        references: networks to time beside `graph`. The server names them ("verify").
    """

    device: str
    kind: str
    runtime: Runtime
    canary: str
    space: str
    graph: str | None = None
    promise: Promise | None = None
    genotypes: tuple[str, ...] = ()
    measure: bool = False
    priority: int = 0
    references: tuple[Reference, ...] = ()

    def __post_init__(self) -> None:
        check_device_name(self.device)
        if self.kind not in JOB_KINDS:
            raise InvalidValue("job.kind", f"'{self.kind}' is none of {', '.join(JOB_KINDS)}")
        if abs(self.priority) > LARGEST_PRIORITY:
            limits = f"{-LARGEST_PRIORITY} to {LARGEST_PRIORITY}"
            raise InvalidValue("job.priority", f"{self.priority} is not within {limits}")
        if self.kind == "verify" and (self.graph is None or self.promise is None):
            raise InvalidValue("job", "a verification needs a graph and a promise")
        least, most = (1, MOST_GENOTYPES) if self.kind == "count" and self.graph is None else (0, 0)
        if not least <= len(self.genotypes) <= most:
            raise InvalidValue("job.genotypes", f"{len(self.genotypes)} are not within {least} to {most}")


@dataclass(frozen=True)
class Verification:
    """A measured network, in milliseconds of its table and in those of the device's clock.

    Attributes:
        measured_ms: ratio to the canary times the canary's nominal time, without the state.
        low_ms, high_ms: 95 % confidence interval of `measured_ms`.
        raw_ms: by the device's clock.
        canary_drift: canary's time now over its nominal time.
        met: whether measured_ms <= target_ms.
        state: how much slower than in the table its own networks were in the same rounds, beside
            the canary; None where no network was timed beside it.
    """

    measured_ms: float
    low_ms: float
    high_ms: float
    raw_ms: float
    canary_drift: float
    met: bool
    stable: bool
    reasons: tuple[str, ...]
    state: float | None = None

    @property
    def as_timed_ms(self) -> float:
        """The time in milliseconds of the canary, state and all."""
        return self.measured_ms * (self.state or 1.0)


@dataclass(frozen=True)
class Job:
    """A job with its state and result.

    Attributes:
        reason: why it failed or is dead.
        notice: why a queued job waits, for people: no agent asks for the device's work.
    """

    id: str
    job: NewJob
    state: str
    attempts: int
    max_attempts: int
    created_at: str
    lease_owner: str | None = None
    lease_until: str | None = None
    reason: str | None = None
    verification: Verification | None = None
    run: str | None = None
    notice: str | None = None


@dataclass(frozen=True)
class JobResult:
    """An agent's result: a measurement, a run's id or kernels by genotype; or an error.

    Attributes:
        references: what was timed beside the measured network, in the job's order.
    """

    measurement: Measurement | None = None
    run: str | None = None
    error: str | None = None
    runtime: Runtime | None = None
    kernels: dict[str, dict[str, int]] | None = None
    references: tuple[Measurement, ...] = ()

    def __post_init__(self) -> None:
        if len(self.error or "") > LONGEST_REASON:
            raise InvalidValue("result.error", f"is longer than {LONGEST_REASON} characters")
