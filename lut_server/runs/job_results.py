"""What a job must be before it is queued, what its result means, and whether a promise was kept."""

from __future__ import annotations

import json

from lut_server.error_codes import refused
from lut_server.store.sql import Store
from shared.errors import InvalidValue
from shared.jobs import Job, JobResult, NewJob, Verification
from shared.kernels.kernel import check_counts
from shared.measurements.graph_spec import CanaryGraph, NetworkGraph, UploadedModel, parse_graph_spec
from shared.measurements.measurement import Measurement
from shared.spaces import parse_space
from shared.tables.table import LatencyTable, read_table
from shared.tables.table_source import not_verifiable


def check_job(store: Store, job: NewJob) -> None:
    """Raise unless all that the job names is there and fits together.

    Raises:
        NotFound: unknown_device, unknown_model or no_table.
        InvalidValue: a reference that cannot be read, or a promise made for another device or
            canary.
    """
    store.devices.get(job.device)
    space = parse_space(job.space)
    for genotype in job.genotypes:
        NetworkGraph(space, space.parse(genotype))
    if job.promise is not None:
        table = _table(store, job.promise.table_hash)
        if table.source is not None:
            raise InvalidValue("job.promise.table_hash", not_verifiable(table.device, table.source))
        if (table.device, table.canary) != (job.device, job.canary):
            raise InvalidValue("job.promise.table_hash", f"is a table of {table.device} with {table.canary}")
    if not isinstance(parse_graph_spec(job.canary), CanaryGraph):
        raise InvalidValue("job.canary", f"'{job.canary[:80]}' is not a canary")
    if job.graph is not None:
        graph = parse_graph_spec(job.graph)
        if isinstance(graph, UploadedModel) and not store.models.has(graph.sha256):
            raise refused("unknown_model", f"no model {graph.sha256} was uploaded: PUT /v1/models/{graph.sha256} first")


def store_result(store: Store, job_id: str, job: NewJob, result: JobResult) -> Job:
    """Store a job's result, with the verification that follows from it.

    Raises:
        InvalidValue: the result does not answer the job.
        NotFound: it names a run that is not there.
        Conflict: the job has another result, or was cancelled.
    """
    check_result(job, result)
    if result.run is not None and store.runs.get_run(result.run).device != job.device:
        raise InvalidValue("result.run", f"'{result.run}' is a run of another device")
    if result.kernels is not None:
        counts = {f"network:{job.space}:{genotype}": kernels for genotype, kernels in result.kernels.items()}
        store.kernels.put(job.device, str(result.runtime or job.runtime), counts)
    nominal_ms = 1.0
    if job.promise is not None:
        nominal_ms = _table(store, job.promise.table_hash).canary_nominal_ms
    return store.jobs.complete(job_id, result, compare_with_promise(job, result, nominal_ms))


def _table(store: Store, table_hash: str) -> LatencyTable:
    return read_table(json.loads(store.tables.get_bytes(table_hash)))


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
