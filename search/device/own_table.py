"""The latency table of a user's own model: its networks go to the server, its device measures them."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from search.device.kernel_counts import ANSWER_S
from search.device.lut_client import LutClient
from search.own_model.examine import OwnModel
from search.process.progress import Progress
from shared.errors import LutnasError, NotFound
from shared.jobs import Job, NewJob
from shared.measurements.graph_spec import CanaryGraph
from shared.measurements.plan import make_plan
from shared.runtime import Runtime
from shared.tables.table import LatencyTable

LONGEST_CAMPAIGN_S = 3600.0


def get_own_table(
    client: LutClient, own: OwnModel, device: str, runtime: str | None, progress: Progress
) -> LatencyTable:
    """The newest table of the model on a device; without any, the device measures it first.

    The model's file stays here. Its networks go to the server as ONNX, with the model's own weights.

    Args:
        runtime: of the table, or parts of it; None takes any.

    Raises:
        NotFound: unknown device.
        LutnasError: no agent of the device answers, or the campaign fails.
    """
    space = str(own.space)
    with suppress(NotFound):
        return client.get_table(device, space, runtime)
    wanted = _find_runtime(client, device, runtime)
    genotypes = [own.space.parse(task.subject) for task in make_plan(own.space).tasks]
    with progress.phase("exporting networks", len(genotypes)) as phase:
        client.upload_networks(own, genotypes, phase.advance)
    progress.line(f"{device} measures up to {len(genotypes)} networks, which takes minutes")
    _have_profiled(client, NewJob(device, "profile", wanted, str(CanaryGraph()), space))
    return client.get_table(device, space, runtime)


def _find_runtime(client: LutClient, device: str, runtime: str | None) -> Runtime:
    """That of the device's newest measured table, else ONNX Runtime on a thread."""
    try:
        newest = client.get_table(device, None, runtime)
    except NotFound as error:
        if error.code != "no_table":
            raise
        newest = None
    if newest is None or newest.source is not None:
        return Runtime("onnxruntime", "any")
    return replace(newest.runtime, version="any", batch=1, precision="fp32")


def _have_profiled(client: LutClient, new: NewJob) -> None:
    begun_s = time.monotonic()

    def look(polled: Job) -> None:
        if polled.state == "queued" and polled.notice and time.monotonic() - begun_s > ANSWER_S:
            raise LutnasError(polled.notice)

    job = client.have_done(new, LONGEST_CAMPAIGN_S, look)
    if job.state != "done":
        raise LutnasError(f"{new.device} made no table: job {job.id} is {job.state} ({job.reason or 'no reason'})")
