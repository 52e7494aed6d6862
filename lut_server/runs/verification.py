"""Whether a network kept its promise, in the milliseconds of the table that promised.

The canary shows the machine's speed. It does not show what a neighbour takes of caches and memory:
a network may be 20 % slower at an unchanged canary. So networks of the table are timed in the same
rounds. They bracket the network in question, so what slows them slows it alike:

    state = geometric mean over references of (time now / time in the table)
    measured_ms = time now / state
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from shared.errors import InvalidValue
from shared.jobs import JobResult, NewJob, Promise, Reference, Verification
from shared.kernels.kernel import check_counts
from shared.measurements.graph_spec import NetworkGraph
from shared.measurements.measurement import Measurement
from shared.tables.table import NORMAL_975, LatencyTable

REFERENCES_PER_SIDE = 2
NO_STATE = "no network of its table was timed beside it: the machine's state of the moment is in the time"


def choose_references(table: LatencyTable, promise: Promise) -> tuple[Reference, ...]:
    """Other networks of the table that bracket a promised latency: the nearest on each side."""
    space = table.parsed_space
    others = [network for network in table.networks if network.genotype != promise.genotype]
    ordered = sorted(others, key=lambda network: network.measured_ms)
    faster = sum(network.measured_ms < promise.predicted_ms for network in ordered)
    first = min(max(faster - REFERENCES_PER_SIDE, 0), max(len(ordered) - 2 * REFERENCES_PER_SIDE, 0))
    return tuple(
        Reference(str(NetworkGraph(space, space.parse(network.genotype))), network.genotype, network.measured_ms)
        for network in ordered[first : first + 2 * REFERENCES_PER_SIDE]
    )


def _state(
    references: Sequence[Reference], measured: Sequence[Measurement], nominal_ms: float
) -> tuple[float, float] | None:
    """How much slower than in the table its networks are now, and the spread of that factor's
    logarithm; None without any."""
    shifts = [
        math.log(nominal_ms * measurement.estimate().ratio / reference.table_ms)
        for reference, measurement in zip(references, measured, strict=True)
    ]
    if not shifts:
        return None
    return math.exp(fmean(shifts)), stdev(shifts) / math.sqrt(len(shifts)) if len(shifts) > 1 else 0.0


def check_result(job: NewJob, result: JobResult) -> None:
    """Raise InvalidValue unless the result answers the job."""
    answers = [name for name in ("measurement", "run", "kernels", "error") if getattr(result, name) is not None]
    expected = {"verify": "measurement", "profile": "run", "count": "kernels"}[job.kind]
    if answers not in ([expected], ["error"]):
        raise InvalidValue(
            "result", f"a {job.kind} job takes a {expected} or an error, found {', '.join(answers) or 'none'}"
        )
    if result.measurement is not None:
        _check_measurement(job.graph, result.measurement)
        if result.references and len(result.references) != len(job.references):
            raise InvalidValue(
                "result.references", f"{len(result.references)} were timed, the job names {len(job.references)}"
            )
        for reference, measurement in zip(job.references, result.references, strict=False):
            _check_measurement(reference.graph, measurement)
    if result.kernels is not None:
        check_counts("result.kernels", result.kernels)
        strangers = sorted(set(result.kernels) - {*job.genotypes, job.graph})
        if strangers:
            raise InvalidValue("result.kernels", f"the job does not ask for {strangers[0][:200]}")


def compare_with_promise(job: NewJob, result: JobResult, nominal_ms: float) -> Verification | None:
    """Hold a measurement against the job's promise; None where the agent only says why it failed.

    Args:
        nominal_ms: the canary's nominal time in the table that promised.

    Raises:
        InvalidValue: the times are so far apart that their ratio is not a time.
    """
    measurement, promise = result.measurement, job.promise
    if measurement is None or promise is None:
        return None
    estimate = measurement.estimate()
    try:
        state = _state(job.references if result.references else (), result.references, nominal_ms)
        factor, state_sd = state or (1.0, 0.0)
        measured_ms = nominal_ms * estimate.ratio / factor
    except (ValueError, ArithmeticError) as error:
        raise InvalidValue("result.references", "hold no times") from error
    if not 0 < measured_ms < float("inf"):
        raise InvalidValue("result.measurement", f"{measured_ms} ms is not a time")
    half_ms = math.hypot(nominal_ms * estimate.half_width / factor, NORMAL_975 * state_sd * measured_ms)
    reasons = measurement.verdict.reasons
    if result.runtime is not None and result.runtime != job.runtime:
        reasons = (*reasons, f"measured with {result.runtime}, the table is of {job.runtime}")
    if state is None:
        reasons = (*reasons, NO_STATE)
    return Verification(
        measured_ms=measured_ms,
        low_ms=max(measured_ms - half_ms, 0.0),
        high_ms=measured_ms + half_ms,
        raw_ms=measurement.raw_ms(),
        canary_drift=measurement.canary_ms() / nominal_ms,
        met=measured_ms <= promise.target_ms,
        stable=measurement.verdict.stable,
        reasons=reasons,
        state=factor if state else None,
    )


def _check_measurement(graph: str | None, measurement: Measurement) -> None:
    if measurement.role != "verification":
        raise InvalidValue("result.measurement.role", f"'{measurement.role}' is not verification")
    if measurement.graph != graph or measurement.minus is not None or measurement.divisor != 1:
        raise InvalidValue("result.measurement.graph", f"the job asks for {graph}, alone and whole")
