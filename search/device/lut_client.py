"""The client of a lut-server, with the routes for a search."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from shared.errors import LutnasError, ServerAway
from shared.http.client import HttpClient
from shared.jobs import OVER, Job, NewJob
from shared.kernels.kernel import check_counts
from shared.measurements.graph_spec import NetworkGraph
from shared.search_result import SearchResult
from shared.spaces import Genotype

if TYPE_CHECKING:
    from search.own_model.examine import OwnModel

POLL_S = 0.5


class LutClient(HttpClient):
    """Errors are those of `HttpClient`."""

    role = "search"

    def get_kernel_counts(self, device: str, space: str, runtime: str) -> dict[str, dict[str, int]]:
        """Kernel counts of networks of a space on the device, by genotype."""
        query = {"device": device, "space": space, "runtime": runtime}
        counts = self._value(dict[str, dict[str, int]], "counts", self._ask("GET", "kernels", query=query))
        if counts:
            self._read(lambda: check_counts("counts", counts))
        return counts

    def upload_model(self, content: bytes) -> str:
        """Upload an ONNX file; returns its SHA-256. The same file twice is stored once."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._ask("PUT", "models", sha256, body=content, headers={"Content-Type": "application/octet-stream"})
        return sha256

    def upload_networks(
        self, own: OwnModel, genotypes: Iterable[Genotype], advance: Callable[[int], None] = lambda n: None
    ) -> None:
        """Upload networks of a user's own model, for devices to time and to count; the first file of each stays."""
        headers = {"Content-Type": "application/octet-stream"}
        for genotype in genotypes:
            query = {"spec": str(NetworkGraph(own.space, genotype))}
            self._ask("PUT", "graph", query=query, body=own.export(genotype), headers=headers)
            advance(1)

    def post_search(self, result: SearchResult) -> None:
        """Post a result; the same result twice is stored once."""
        self._ask("POST", "searches", body=result)

    def cancel_job(self, job_id: str) -> Job:
        """Cancel a job, so that no later agent does it."""
        return self._value(Job, "job", self._ask("POST", "jobs", job_id, "cancel"))

    def have_done(
        self,
        new: NewJob,
        timeout_s: float,
        on_poll: Callable[[Job], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Job:
        """Queue a job and poll until it is over or the time is up; the state of the returned job says which.

        An absent server may come back: only its absence at the end is an error. An error, or an
        interruption, cancels the job.
        """
        job_id, deadline = self.queue_job(new).id, clock() + timeout_s
        try:
            while True:
                try:
                    job = self.get_job(job_id)
                    on_poll(job)
                    if job.state in OVER or clock() >= deadline:
                        return job
                except ServerAway:
                    if clock() >= deadline:
                        raise
                sleep(min(POLL_S, max(deadline - clock(), 0.01)))
        except BaseException:
            with suppress(LutnasError):
                self.cancel_job(job_id)
            raise
