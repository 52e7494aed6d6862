"""Which kernels the device executes for a network: what the server knows, and what the device is asked for, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from search.device.lut_client import LutClient
from shared.errors import LutnasError
from shared.jobs import NewJob
from shared.tables.table import LatencyTable

ANSWER_S = 5.0
"""How long an agent may take to begin; one that works asks for jobs every second or two."""
DONE_S = 120.0

Counts = Mapping[str, Mapping[str, int]]
Counter = Callable[[Sequence[str]], Counts]
"""Kernel counts by genotype, of those networks whose kernels are known."""


def no_counts(_: Sequence[str]) -> Counts:
    """A counter that knows nothing: predictions are made from op prices."""
    return {}


class KernelCounter:
    """Asks a server, and through it the device. Without an answer it knows less; it never fails.

    Args:
        client: of the table server.
        table: that the search used.
        clock, sleep: a test passes its own.
    """

    def __init__(
        self,
        client: LutClient,
        table: LatencyTable,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._sleep = sleep
        self._may_ask = table.kernels is not None
        self._known: dict[str, Mapping[str, int]] | None = None

    def __call__(self, genotypes: Sequence[str]) -> Counts:
        """Counts of the genotypes, as far as they can be had."""
        if self._table.kernels is None:
            return {}
        if self._known is None:
            self._known = self._fetch()
        missing = [genotype for genotype in genotypes if genotype not in self._known]
        if missing and self._may_ask:
            self._may_ask = self._ask(missing)
            self._known |= self._fetch()
        return {genotype: self._known[genotype] for genotype in genotypes if genotype in self._known}

    def _fetch(self) -> dict[str, Mapping[str, int]]:
        table = self._table
        try:
            return dict(self._client.get_kernel_counts(table.device, table.space, str(table.runtime)))
        except LutnasError:
            self._may_ask = False
            return {}

    def _ask(self, genotypes: Sequence[str]) -> bool:
        """Have the device count; whether it did."""
        table = self._table
        wanted = NewJob(table.device, "count", table.runtime, table.canary, table.space, genotypes=tuple(genotypes))
        try:
            job = self._client.queue_job(wanted)
            for patience_s, waiting in ((ANSWER_S, "queued"), (DONE_S, "leased")):
                end_s = self._clock() + patience_s
                while job.state == waiting and self._clock() < end_s:
                    self._sleep(0.25)
                    job = self._client.get_job(job.id)
            if job.state in ("queued", "leased"):
                self._client.cancel_job(job.id)
            return job.state == "done"
        except LutnasError:
            return False
