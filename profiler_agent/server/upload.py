"""Hands in spooled data. It may be repeated: the server knows runs and measurements by id."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.run_spool import RunSpool
from profiler_agent.spool.spool import Spool
from shared.errors import AccessDenied, Conflict, LutnasError, NotFound, ServerAway, ServerRefused
from shared.http.retry import is_passing, retry
from shared.jobs import JobResult
from shared.measurements.measurement import Run

BATCH = 20
"""A measurement of `fbnet` takes 50 KB as JSON."""


class ResultRefused(LutnasError):
    """A server never takes this result of a job."""


@dataclass(frozen=True)
class Uploader:
    """Hands in to a server. Each method raises LutnasError if the server is away or refuses.

    Attributes:
        attempts: how often a server that is away is asked.
        batch: measurements of a request.
    """

    client: ServerClient
    sleep: Callable[[float], None] = time.sleep
    attempts: int = 4
    batch: int = BATCH

    def upload_run(self, spooled: RunSpool) -> int:
        """Hand in a run and its finished measurements; returns how many were new to the server.

        After a failure, what the server took is not sent again, unless it lost that.
        """
        url = self.client.url
        return self.upload(
            spooled.run,
            lambda stored: spooled.unsent(url, stored),
            spooled.read_kernels(),
            lambda ids: spooled.acknowledge(url, ids),
        )

    def upload(
        self,
        run: Run,
        unsent: Callable[[int], Iterable[Mapping[str, Any]]],
        kernels: Mapping[str, Mapping[str, int]],
        acknowledge: Callable[[list[str]], None] = lambda ids: None,
    ) -> int:
        """Hand in a run with its measurements; returns how many were sent.

        Args:
            unsent: which to send, in wire form, given how many the server has.
        """
        self._ask(lambda: self.client.register_device(run.device, run.probe))
        stored = self._ask(lambda: self.client.put_run(run))
        sent = self.client.post_measurements(run.id, unsent(stored), self.batch, self._ask, acknowledge)
        if kernels:
            self._ask(lambda: self.client.put_kernels(run.id, kernels))
        return sent

    def finish_run(self, spooled: RunSpool) -> dict[str, Any]:
        """Have the server make the table; returns what it says of it."""
        table: dict[str, Any] = self._ask(lambda: self.client.finish_run(spooled.run.id, spooled.plan, spooled.chosen))
        spooled.finish(table)
        return table

    def upload_job_result(self, spool: Spool, job_id: str, owner: str, result: JobResult) -> str:
        """Hand in a spooled job result; returns its fate. After a failure it stays spooled.

        Raises:
            ResultRefused: it is never taken. It was set aside, and its job has failed.
        """
        try:
            state = self._ask(lambda: self.client.post_result(job_id, owner, result)).state
        except (Conflict, NotFound) as error:  # done by another agent, cancelled, or forgotten
            state = f"not wanted any more: {error}"
        except ServerRefused as error:
            if is_passing(error) or isinstance(error, AccessDenied):
                raise
            kept, failed = spool.set_aside_result(job_id), JobResult(error=f"its result is refused: {error}")
            with suppress(LutnasError):
                self._ask(lambda: self.client.post_result(job_id, owner, failed))
            raise ResultRefused(f"its result is refused ({error}), and kept as {kept}") from error
        spool.drop_result(job_id)
        return str(state)

    def _ask(self, action: Callable[[], Any]) -> Any:
        return retry(action, self.attempts, self.sleep)


def upload_everything(spool: Spool, uploader: Uploader, owner: str, say: Callable[[str], None]) -> bool:
    """Hand in all runs and results; returns whether all of it got there. A refused run stops no
    other.

    Raises:
        ServerAway: nothing more can be handed in now.
    """
    complete, found = True, False
    for spooled in spool.runs():
        missing, tasks = len(spooled.missing_tasks()), len(spooled.tasks)
        if spooled.finished or missing == tasks:
            continue
        found = True
        try:
            say(f"run {spooled.run.id}: uploaded {uploader.upload_run(spooled)} measurements")
            if missing:
                say(f"run {spooled.run.id}: {missing} of {tasks} tasks are not measured yet")
            elif not spooled.settled:
                say(f"run {spooled.run.id}: more networks are to be chosen: run the same profile again")
            else:
                say(f"run {spooled.run.id}: table {uploader.finish_run(spooled)['hash']}")
        except ServerAway:
            raise
        except LutnasError as error:
            say(f"run {spooled.run.id}: {error}")
            complete = False
    for job_id, result in spool.results().items():
        found = True
        try:
            say(f"job {job_id}: {uploader.upload_job_result(spool, job_id, owner, result)}")
        except ResultRefused as error:
            say(f"job {job_id}: {error}")
            complete = False
    if not found:
        say(f"nothing to upload in {spool.folder}")
    return complete
