"""Kernels that a device executes for a network: from the run's folder, the server, or the device.

`kernel_counts.json` keeps every fetched count: a later question has the same answer without server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from search.device.lut_client import LutClient
from search.runs.run_directory import DeviceRun
from shared.atomic_files import write_atomically
from shared.errors import InvalidValue, LutnasError
from shared.jobs import NewJob
from shared.spaces import Genotype
from shared.wire import from_wire, to_wire

ANSWER_S = 5.0
"""Longest wait until an agent begins; an idle agent asks for jobs every second or two."""
DONE_S = 120.0
COUNTS_FILE = "kernel_counts.json"

Counts = Mapping[Genotype, Mapping[str, int]]
CountKernels = Callable[[Sequence[Genotype]], Counts]
"""Kernel counts by genotype, of those networks whose kernels are known."""


@dataclass(frozen=True)
class _Kept:
    table_hash: str
    counts: dict[str, dict[str, int]]


def no_counts(_: Sequence[Genotype]) -> Counts:
    """Knows no kernels: op prices give the bounds."""
    return {}


def have_counted(
    client: LutClient,
    new: NewJob,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    done_s: float = DONE_S,
) -> None:
    """Have a device do a count job. None is left behind.

    Raises:
        LutnasError: no agent took it within seconds, or did it within `done_s`; or it failed.
    """
    job = client.queue_job(new)
    try:
        for patience_s, waiting in ((ANSWER_S, "queued"), (done_s, "leased")):
            end_s = clock() + patience_s
            while job.state == waiting and clock() < end_s:
                sleep(0.25)
                job = client.get_job(job.id)
    except BaseException:
        with suppress(LutnasError):
            client.cancel_job(job.id)
        raise
    if job.state == "done":
        return
    why = f"job {job.id} of {new.device} is {job.state} ({job.reason or 'no reason'})"
    if job.state in ("queued", "leased"):
        client.cancel_job(job.id)
        why = f"the agent of {new.device} did not count them within {done_s:g} s"
    if job.state == "queued":
        why = f"no agent of {new.device} answered within {ANSWER_S:g} s (profiler-agent work is one)"
    raise LutnasError(why)


class KernelCounter:
    """Looks into the run's folder, asks the server, then the device. It may leave out networks.

    Args:
        connect: opens the client of the server, when the folder lacks a count.
        say: told once, in a line, which question failed.
    """

    def __init__(
        self,
        run: DeviceRun,
        connect: Callable[[], LutClient],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run, self._table, self._space = run, run.table, run.space
        self._path = run.folder / COUNTS_FILE
        self._connect, self._say = connect, say
        self._clock, self._sleep = clock, sleep
        self._may_ask = True
        self._known = self._load()

    def __call__(self, genotypes: Sequence[Genotype]) -> Counts:
        """Counts of the genotypes whose kernels are known."""
        names = [self._space.format(genotype) for genotype in genotypes]
        missing = [name for name in names if name not in self._known]
        if missing and self._may_ask:
            why = self._learn(missing)
            left = sum(name not in self._known for name in missing)
            if left:
                self._may_ask = False
                self._say(f"kernels of {left} of {len(names)} networks are unknown, op prices bound them: {why}")
        return {
            genotype: self._known[name] for genotype, name in zip(genotypes, names, strict=True) if name in self._known
        }

    def _learn(self, names: Sequence[str]) -> str:
        """Fetch counts from the server, and have the device count the rest; returns what failed."""
        try:
            with self._connect() as client:
                self._fetch(client)
                missing = [name for name in names if name not in self._known]
                if missing and self._run.own_model is not None:
                    self._say(f"exporting {len(missing)} networks, so that {self._table.device} counts their kernels")
                    client.upload_networks(self._run.own_model, map(self._space.parse, missing))
                if missing:
                    table, genotypes = self._table, tuple(missing)
                    job = NewJob(table.device, "count", table.runtime, table.canary, table.space, genotypes=genotypes)
                    have_counted(client, job, self._clock, self._sleep)
                    self._fetch(client)
        except LutnasError as error:
            return str(error)
        return "its runtime does not load them"

    def _fetch(self, client: LutClient) -> None:
        table = self._table
        fetched = client.get_kernel_counts(table.device, table.space, str(table.runtime))
        if fetched.keys() - self._known.keys():
            self._known |= fetched
            kept = _Kept(table.hash, self._known)
            write_atomically(self._path, json.dumps(to_wire(kept), sort_keys=True).encode() + b"\n")

    def _load(self) -> dict[str, dict[str, int]]:
        """The kept counts of this table; anything else is fetched anew."""
        try:
            kept = from_wire(_Kept, json.loads(self._path.read_bytes()))
        except (FileNotFoundError, ValueError, InvalidValue):
            return {}
        return kept.counts if kept.table_hash == self._table.hash else {}
