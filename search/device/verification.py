"""Ask the device itself: upload a network, queue its measurement, wait for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from search.device.lut_client import LutClient
from shared.errors import LutnasError, WrongUse
from shared.jobs import Job, NewJob, Promise, Verification
from shared.measurements.graph_spec import UploadedModel
from shared.tables.table import LatencyTable
from shared.tables.table_source import not_verifiable

TIMEOUT_S = 300.0


def request_verification(
    client: LutClient,
    table: LatencyTable,
    model: bytes,
    promise: Promise,
    timeout_s: float = TIMEOUT_S,
    on_notice: Callable[[str], None] = lambda notice: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Verification:
    """Have the table's device measure a network.

    Args:
        client: of the table's server, with a token of the role `search`.
        table: of the promise; the device measures with its runtime and canary.
        model: ONNX bytes.
        promise: compared with the measured latency.
        timeout_s: longest wait for the device.
        on_notice: told once what keeps the job waiting, if the server knows.

    Raises:
        WrongUse: the table was imported, so no device answers for it.
        LutnasError: nobody answered in time, or the device could not measure the network.
        ServerAway, ServerRefused: as `LutClient` says.
    """
    if table.source is not None:
        raise WrongUse(not_verifiable(table.device, table.source))
    graph = str(UploadedModel(client.upload_model(model)))
    new = NewJob(table.device, "verify", table.runtime, table.canary, table.space, graph, promise)
    told: set[str] = set()

    def tell(polled: Job) -> None:
        if polled.notice is not None and not told:
            told.add(polled.notice)
            on_notice(polled.notice)

    job = client.have_done(new, timeout_s, tell, clock, sleep)
    if job.state == "queued":
        client.cancel_job(job.id)
    return _verification(job, client.url, table.device, timeout_s)


def _verification(job: Job, url: str, device: str, timeout_s: float) -> Verification:
    if job.state == "done" and job.verification is not None:
        return job.verification
    if job.state == "queued":
        raise LutnasError(
            f"no agent of {device} took the verification within {timeout_s:g} s; start one on the device:"
            f" profiler-agent work --lut-url {url} --device {device} --token TOKEN"
        )
    if job.state == "leased":
        raise LutnasError(
            f"the agent of {device} ({job.lease_owner}) has not finished the verification within {timeout_s:g} s;"
            f" job {job.id} goes on, ask again with a longer --timeout-s"
        )
    raise LutnasError(f"{device} did not verify the network: job {job.id} is {job.state} ({job.reason or 'no reason'})")
