"""Does the jobs that a server has for this device, one after the other."""

from __future__ import annotations

import dataclasses
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from profiler_agent.host.probe import probe
from profiler_agent.kernels.count_jobs import count_graphs, count_networks
from profiler_agent.ort.sessions import find_version
from profiler_agent.profile.check_table import check_table
from profiler_agent.profile.measure_kernels import KernelRequest, measure_kernels
from profiler_agent.profile.profile import Profiler, ProfileRequest
from profiler_agent.profile.status_report import StatusBoard, repeating
from profiler_agent.profile.verify_job import measure_models, to_verify
from profiler_agent.progress import Progress
from profiler_agent.server.graph_store import GraphStore
from profiler_agent.server.server_client import ServerClient
from profiler_agent.server.upload import ResultRefused, Uploader
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.campaign import CanaryWatch
from profiler_agent.timing.stopping import PRESETS, Preset
from shared.errors import Conflict, LutnasError, NotFound, ServerAway, ServerRefused, in_one_line
from shared.http.retry import asked_pause_s, is_passing, pauses_s
from shared.jobs import OVER, Job, JobResult
from shared.measurements.plan import Task
from shared.runtime import Runtime
from shared.spaces import parse_space

LEASE_S = 60.0


class JobOver(LutnasError):
    """The job is done, cancelled or forgotten."""


@dataclass
class Worker:
    """An agent that works for a server.

    Attributes:
        poll_s: pause when there is nothing to do.
    """

    client: ServerClient
    spool: Spool
    progress: Progress
    device: str
    preset: Preset = PRESETS["standard"]
    poll_s: float = 2.0
    lease_s: float = LEASE_S
    owner: str = dataclasses.field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    board: StatusBoard = dataclasses.field(default_factory=StatusBoard)
    sleep: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic
    _checked: dict[str, date] = dataclasses.field(default_factory=dict, init=False)

    def run(self, once: bool = False, idle_exit_s: float | None = None) -> None:
        """Work until nothing is queued (`once`), until nothing came for `idle_exit_s`, or for ever.

        Raises:
            LutnasError: the server refuses, and waiting does not help; with `once` also if it is away.
        """
        registered = False
        away = pauses_s()
        last_job_s = self.clock_s()
        while True:
            try:
                if not registered:
                    self.client.register_device(self.device, probe())
                    registered = True
                self._upload_results()
                self.board.sample()
                job = self.client.lease_job(self.device, self.owner, self.lease_s, self.board.status)
                away = pauses_s()
                pause_s = self.poll_s
            except (ServerAway, ServerRefused) as error:
                if once:
                    raise
                if isinstance(error, NotFound):
                    registered = False  # the server lost its database, or was replaced
                elif not is_passing(error):
                    raise
                job, pause_s = None, asked_pause_s(error, next(away))
                self.progress.say(f"{error}; asking again in {pause_s:g} s")
            if job is not None:
                self._do(job)
                last_job_s = self.clock_s()
            elif once or (idle_exit_s is not None and self.clock_s() - last_job_s >= idle_exit_s):
                return
            else:
                self.sleep(pause_s)

    def _do(self, job: Job) -> None:
        self.progress.say(f"job {job.id}: {job.job.kind}, attempt {job.attempts}")
        over = threading.Event()

        def check() -> None:
            self.board.sample()
            if over.is_set():
                raise JobOver(f"job {job.id} is over")

        try:
            with repeating(lambda: self._beat(job, over), self.lease_s / 3):
                work = {"verify": self._measure_model, "profile": self._profile, "count": self._count}
                result = work[job.job.kind](job, check)
        except (JobOver, ServerAway) as error:
            # The rounds are spooled. The job comes back when its lease runs out, and goes on from there.
            self.progress.say(f"job {job.id}: left, {error}")
            return
        except LutnasError as error:
            self.progress.say(f"job {job.id}: failed, {error}")
            result = JobResult(error=in_one_line(error))
        finally:
            self.board.clear_progress()
        self.spool.keep_result(job.id, result)
        try:
            self._upload_results()
        except (ServerAway, ServerRefused) as error:
            if not is_passing(error):
                raise
            self.progress.say(f"job {job.id}: {error}; its result is spooled and will be handed in")

    def _upload_results(self) -> None:
        uploader = Uploader(self.client, self.sleep, attempts=1)
        for job_id, result in self.spool.results().items():
            try:
                fate = uploader.upload_job_result(self.spool, job_id, self.owner, result)
            except ResultRefused as error:
                fate = str(error)
            self.progress.say(f"job {job_id}: {fate}")

    def _measure_model(self, job: Job, check: Callable[[], None]) -> JobResult:
        wanted = job.job
        if wanted.graph is None or wanted.promise is None:
            raise LutnasError("a verification without a graph")
        runtime = dataclasses.replace(wanted.runtime, version=find_version())
        store = GraphStore(self.client, self.spool, runtime.batch, self.sleep, precision=runtime.precision)
        tasks = [Task(wanted.promise.genotype, "verification", wanted.graph)]
        tasks += [Task(reference.genotype, "verification", reference.graph) for reference in wanted.references]
        self._check_table(wanted.promise.table_hash, check)
        canary, models = store.read(wanted.canary), [(tasks[0], store.read(tasks[0].graph))]
        try:
            models += [(task, store.read(task.graph)) for task in tasks[1:]]
        except ServerRefused as error:
            self.progress.say(f"job {job.id}: no network of its table is timed beside it: {error}")
        watch = CanaryWatch(self.spool.find_usual_canary(runtime, wanted.canary))
        preset = to_verify(self.preset)
        with self.spool.measuring_lock(wait=True):
            found = measure_models(job.id, models, canary, runtime, preset, watch, check, self.sleep)
        self.spool.keep_usual_canary(runtime, wanted.canary, watch.usual_ms())
        return JobResult(measurement=found[0], references=tuple(found[1:]), runtime=runtime)

    def _check_table(self, table_hash: str, check: Callable[[], None]) -> None:
        """Check the table before its first verification of a day; what that finds stops nothing."""
        today = datetime.now(UTC).date()
        if self._checked.get(table_hash) == today:
            return
        self._checked[table_hash] = today
        preset = min(self.preset, PRESETS["quick"], key=lambda preset: preset.max_rounds)
        try:
            table = self.client.fetch_table(table_hash)
            found = check_table(self.client, self.spool, table, check, self.sleep, preset)
        except (JobOver, ServerAway):
            raise
        except LutnasError as error:
            self.progress.say(f"table {table_hash[:12]} is not checked: {error}")
            return
        self.board.note_check(found)
        self.progress.say(found.describe())

    def _count(self, job: Job, check: Callable[[], None]) -> JobResult:
        wanted = job.job
        runtime = dataclasses.replace(wanted.runtime, version=find_version())
        if wanted.graph is not None:
            if wanted.measure:
                self._measure_kernels(job, wanted.graph, runtime, check)
            counts = count_graphs(self.client, [wanted.graph], runtime, check)
        else:
            counts = count_networks(self.client, parse_space(wanted.space), wanted.genotypes, runtime, check)
        return JobResult(runtime=runtime, kernels=counts)

    def _measure_kernels(self, job: Job, graph: str, runtime: Runtime, check: Callable[[], None]) -> None:
        """Measure what the table lacks of a graph's kernels. A kernel that cannot be measured alone stops no other."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            file.write_bytes(self.client.fetch_graph(graph, runtime.batch, runtime.precision))
            request = KernelRequest(self.device, (file,), runtime, {}, job.job.space, self.preset)
            outcome = measure_kernels(self._profiler(check), request)
        for problem in (*outcome.refused, *(outcome.run.refused if outcome.run else ())):
            self.progress.say(f"job {job.id}: {problem}")

    def _profile(self, job: Job, check: Callable[[], None]) -> JobResult:
        names = ("threads", "batch", "precision", "provider", "optimisation")
        wanted = {name: getattr(job.job.runtime, name) for name in names}
        request = ProfileRequest(self.device, (parse_space(job.job.space),), preset=self.preset, **wanted)
        (outcome,) = self._profiler(check).profile(request)
        if outcome.problem is not None:
            raise outcome.problem
        if outcome.table is None:
            raise LutnasError(f"{len(outcome.refused)} graphs could not be measured: {outcome.refused[0]}")
        return JobResult(run=outcome.run_id)

    def _profiler(self, check: Callable[[], None]) -> Profiler:
        return Profiler(
            self.client, self.spool, self.progress, self.sleep, check=check, wait_for_others=True, board=self.board
        )

    def _beat(self, job: Job, over: threading.Event) -> bool:
        """Keep the lease; returns whether to go on with that."""
        try:
            self.client.heartbeat(job.id, self.owner, self.lease_s, self.board.status)
        except (Conflict, NotFound):
            if self._is_over(job.id):
                over.set()
            return False  # a late result still counts: the job goes on without its lease
        except LutnasError:
            pass  # the server is away: the lease may outlast that
        return True

    def _is_over(self, job_id: str) -> bool:
        try:
            return self.client.get_job(job_id).state in OVER
        except NotFound:
            return True
        except LutnasError:
            return False
