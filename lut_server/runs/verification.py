"""Whether a network kept its promise, in the milliseconds of the table that promised."""

from __future__ import annotations

from shared.errors import InvalidValue
from shared.jobs import JobResult, NewJob, Verification
from shared.kernels.kernel import check_counts
from shared.measurements.measurement import Measurement


def check_result(job: NewJob, result: JobResult) -> None:
    """Raise InvalidValue unless the result answers the job."""
    answers = [name for name in ("measurement", "run", "kernels", "error") if getattr(result, name) is not None]
    expected = {"verify": "measurement", "profile": "run", "count": "kernels"}[job.kind]
    if answers not in ([expected], ["error"]):
        raise InvalidValue(
            "result", f"a {job.kind} job takes a {expected} or an error, found {', '.join(answers) or 'none'}"
        )
    if result.measurement is not None:
        _check_measurement(job, result.measurement)
    if result.kernels is not None:
        check_counts("result.kernels", result.kernels)
        strangers = sorted(set(result.kernels) - set(job.genotypes))
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
    measured_ms = nominal_ms * estimate.ratio
    if not 0 < measured_ms < float("inf"):
        raise InvalidValue("result.measurement", f"{measured_ms} ms is not a time")
    reasons = measurement.verdict.reasons
    if result.runtime is not None and result.runtime != job.runtime:
        reasons = (*reasons, f"measured with {result.runtime}, the table is of {job.runtime}")
    return Verification(
        measured_ms=measured_ms,
        low_ms=nominal_ms * estimate.low,
        high_ms=nominal_ms * estimate.high,
        raw_ms=measurement.raw_ms(),
        canary_drift=measurement.canary_ms() / nominal_ms,
        met=measured_ms <= promise.target_ms,
        stable=measurement.verdict.stable,
        reasons=reasons,
    )


def _check_measurement(job: NewJob, measurement: Measurement) -> None:
    if measurement.role != "verification":
        raise InvalidValue("result.measurement.role", f"'{measurement.role}' is not verification")
    if measurement.graph != job.graph or measurement.minus is not None or measurement.divisor != 1:
        raise InvalidValue("result.measurement.graph", f"the job asks for {job.graph}, alone and whole")
