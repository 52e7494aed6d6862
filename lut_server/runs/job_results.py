"""What a job must be before it is queued, and what its result means."""

from __future__ import annotations

from dataclasses import replace

from lut_server.error_codes import refused
from lut_server.runs.verification import check_result, choose_references, compare_with_promise
from lut_server.store.sql import Store
from shared.errors import InvalidValue
from shared.jobs import Job, JobResult, NewJob, Reference
from shared.measurements.graph_spec import CanaryGraph, NetworkGraph, UploadedModel, parse_graph_spec
from shared.spaces import parse_space
from shared.tables.table_source import not_verifiable

LONGEST_ERROR = 5000


def prepare_job(store: Store, job: NewJob) -> NewJob:
    """Check that all that the job names is there and fits together, and name its references.

    Raises:
        NotFound: unknown_device, unknown_model or no_table.
        InvalidValue: a reference that cannot be read, or a promise made for another device or
            canary.
    """
    store.devices.get(job.device)
    references: tuple[Reference, ...] = ()
    space = parse_space(job.space)
    for genotype in job.genotypes:
        NetworkGraph(space, space.parse(genotype))
    if job.promise is not None:
        table = store.tables.get(job.promise.table_hash)
        if (table.device, table.canary) != (job.device, job.canary):
            # Without their names: the token may be bound to the job's device.
            raise InvalidValue("job.promise.table_hash", f"is no table of {job.device} with {job.canary[:80]}")
        if table.source is not None:
            raise InvalidValue("job.promise.table_hash", not_verifiable(table.device, table.source))
        references = choose_references(table, job.promise)
    if not isinstance(parse_graph_spec(job.canary), CanaryGraph):
        raise InvalidValue("job.canary", f"'{job.canary[:80]}' is not a canary")
    if job.graph is not None:
        graph = parse_graph_spec(job.graph)
        if isinstance(graph, UploadedModel) and not store.models.has(graph.sha256):
            raise refused("unknown_model", f"no model {graph.sha256} was uploaded: PUT /v1/models/{graph.sha256} first")
    return replace(job, references=references)


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
    if result.error is not None:
        result = replace(result, error=result.error[:LONGEST_ERROR])
    nominal_ms = 1.0
    if job.promise is not None:
        nominal_ms = store.tables.get(job.promise.table_hash).canary_nominal_ms
    done = store.jobs.complete(job_id, result, compare_with_promise(job, result, nominal_ms))
    # After the job took the result. Who hands it in again after an outage comes here again.
    if result.kernels is not None:
        counts = {job.graph or f"network:{job.space}:{name}": kernels for name, kernels in result.kernels.items()}
        store.kernels.put(job.device, str(result.runtime or job.runtime), counts)
    return done
