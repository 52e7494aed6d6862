"""The whole of one profiling run: what to measure, the graphs, the measuring, the upload, the table."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profiler_agent.campaign import Campaign, CanaryWatch, Subject
from profiler_agent.graph_store import GraphStore
from profiler_agent.kernels import UnknownOperator, count_kernels
from profiler_agent.probe import probe
from profiler_agent.progress import Progress
from profiler_agent.residence import MOST_SESSIONS, Residence, give_back_memory
from profiler_agent.retrying import retry
from profiler_agent.round_timer import RoundTimer, TimedGraph
from profiler_agent.server_client import ServerClient
from profiler_agent.sessions import ModelRefused, load_graph, local_runtime, optimise
from profiler_agent.spool import RunSpool, Spool, measurement_id
from profiler_agent.stability import StabilityJudge
from profiler_agent.stopping import PRESETS, Preset, StoppingRule
from profiler_agent.uploading import Uploader
from shared import __version__
from shared.errors import CorruptFile, InvalidValue, LutnasError, NotFound, ServerAway
from shared.measurement import Run, check_device_name
from shared.plan import Plan
from shared.runtime import Runtime
from shared.spaces import Space
from shared.table import LatencyTable
from shared.wire import from_wire, to_wire


@dataclass(frozen=True)
class ProfileRequest:
    """What table is wanted.

    Attributes:
        new: measure although there is an unfinished run, or a table already.
        force: ask the server for the table although some graphs could not be measured.
    """

    device: str
    space: Space
    calibration: int = 40
    held_out: int = 40
    seed: int = 0
    threads: int = 1
    batch: int = 1
    preset: Preset = PRESETS["standard"]
    new: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        check_device_name(self.device)


@dataclass(frozen=True)
class Outcome:
    """What became of a profiling run.

    Attributes:
        run_id: of the run that made the table.
        table: what the server says of the table; None if there is none.
        refused: graphs that ONNX Runtime does not load, with its reasons.
        measured: whether anything had to be measured or uploaded for it.
    """

    run_id: str
    table: Mapping[str, Any] | None
    refused: tuple[str, ...] = ()
    measured: bool = True


@dataclass
class Profiler:
    """Does profiling runs for one server with one spool.

    Attributes:
        check: called between rounds; raises to stop (a cancelled job).
        most_bytes: memory for graphs that stay open between their rounds.
    """

    client: ServerClient
    spool: Spool
    progress: Progress
    sleep: Callable[[float], None] = time.sleep
    probe: Callable[[], dict[str, str]] = probe
    clock_ns: Callable[[], int] = time.perf_counter_ns
    check: Callable[[], None] = field(default=lambda: None)
    wait_for_others: bool = False
    most_bytes: int = 0

    def profile(self, request: ProfileRequest) -> Outcome:
        """Measure what is not measured yet, and have the server make the table.

        Raises:
            ServerAway: everything is measured and spooled, or the plan and graphs are not known here.
            LutnasError: as the message says.
        """
        runtime = local_runtime(request.threads, request.batch)
        description = self.probe()
        online = self._greet(request.device, description)
        plan = self._plan(request, online)
        like = Run(
            str(uuid.uuid4()),
            request.device,
            runtime,
            plan.space,
            plan.id,
            plan.canary,
            __version__,
            _now(),
            description,
        )
        with self.spool.measuring(self.wait_for_others):
            spooled = None if request.new else self.spool.find_unfinished(like)
            if spooled is None and online and not request.new:
                existing = self._find_table(request, runtime, plan)
                if existing is not None:
                    return Outcome(existing.runs[-1], to_wire(existing) | {"hash": existing.hash}, measured=False)
            if spooled is None:
                spooled = self.spool.new_run(like, plan)
            else:
                done = len(plan.tasks) - len(spooled.missing_tasks())
                self.progress.say(f"resuming run {spooled.run.id}: {done} of {len(plan.tasks)} tasks are measured")
            refused = self._measure(spooled, request.preset, online, resumed=spooled.run.id != like.id)
        return self._hand_in(spooled, refused, request.force)

    def carry_out(self, plan: Plan, device: str, runtime: Runtime, preset: Preset, new: bool = False) -> Outcome:
        """Measure a plan that is at hand, or what an unfinished run of it lacks, and hand it in, complete or not.

        Raises:
            LutnasError: as the message says; what is measured is spooled.
        """
        description = self.probe()
        online = self._greet(device, description)
        identity = str(uuid.uuid4())
        like = Run(identity, device, runtime, plan.space, plan.id, plan.canary, __version__, _now(), description)
        with self.spool.measuring(self.wait_for_others):
            spooled = None if new else self.spool.find_unfinished(like)
            if spooled is None:
                spooled = self.spool.new_run(like, plan)
            refused = self._measure(spooled, preset, online, resumed=spooled.run.id != identity)
        return self._hand_in(spooled, refused, force=True)

    def _greet(self, device: str, description: dict[str, str]) -> bool:
        try:
            retry(lambda: self.client.register_device(device, description), 2, self.sleep)
        except ServerAway as error:
            self.progress.say(f"{error}; going on with what is in {self.spool.folder}")
            return False
        return True

    def _plan(self, request: ProfileRequest, online: bool) -> Plan:
        wanted = (str(request.space), request.calibration, request.held_out, request.seed)
        key = ["plan", *map(str, wanted)]
        if online:
            plan = retry(lambda: self.client.fetch_plan(*wanted), sleep=self.sleep)
            self.spool.keep_known(key, to_wire(plan))
            return plan
        known = self.spool.find_known(key)
        if known is None:
            raise ServerAway(f"no answer from {self.client.url}, and {self.spool.folder} has no such plan from before")
        return from_wire(Plan, known)

    def _find_table(self, request: ProfileRequest, runtime: Runtime, plan: Plan) -> LatencyTable | None:
        """The server's table, if it was made from the same plan by the same agent version."""
        table = self.client.find_table(request.device, plan.space, runtime)
        if table is None or table.agent_version != __version__ or table.canary != plan.canary:
            return None
        try:
            same = any(self.client.fetch_run(run).plan_id == plan.id for run in table.runs)
        except NotFound:
            return None
        return table if same else None

    def _measure(self, spooled: RunSpool, preset: Preset, online: bool, resumed: bool) -> tuple[str, ...]:
        missing = spooled.missing_tasks()
        if not missing:
            return ()
        plan, runtime = spooled.plan, spooled.run.runtime
        wanted = tuple(dict.fromkeys((plan.canary, *(graph for task in missing for graph in task.graphs))))
        store = GraphStore(self.client if online else None, self.spool, runtime.batch, self.sleep, resumed)
        loaded, refused = self._load(store, wanted, spooled)
        if plan.canary not in loaded:
            raise LutnasError(f"without the canary nothing can be measured: {refused[0]}")
        kept = spooled.read_rounds()
        subjects = []
        for task in missing:
            if all(graph in loaded for graph in task.graphs):
                before = kept.get(measurement_id(spooled.run.id, task), [])
                minus = None if task.minus is None else loaded[task.minus]
                disturbed = sum(was for _, was in before)
                subjects.append(Subject(task, loaded[task.graph], minus, [one for one, _ in before], disturbed))
        judge = StabilityJudge(preset)
        rule = StoppingRule(preset, len(subjects), time.monotonic)
        timer = RoundTimer(loaded[plan.canary], self.clock_ns)

        def on_round(all_subjects: Sequence[Subject]) -> None:
            self.check()
            judge.look()
            self.progress.measured(all_subjects, preset.max_rounds)

        rng = random.Random(spooled.run.id)
        watch = CanaryWatch(self.spool.find_usual_canary(runtime, plan.canary))
        with self.progress.bar("measuring"):
            Campaign(subjects, timer, rule, judge.judge, spooled, rng, self.sleep, on_round, watch).run()
        if watch.knows:
            self.spool.keep_usual_canary(runtime, plan.canary, watch.usual_ms())
        return refused

    def _load(
        self, store: GraphStore, wanted: Sequence[str], spooled: RunSpool
    ) -> tuple[dict[str, TimedGraph], tuple[str, ...]]:
        loaded, refused, counted = {}, [], spooled.read_kernels()
        alone = {task.graph for task in spooled.plan.tasks if task.role == "isolated"}  # no part of any fit
        residence = Residence(self.most_bytes)
        with self.progress.bar("graphs"):
            for index, spec in enumerate(wanted):
                self.check()
                try:
                    path = store.locate(spec)
                    loaded[spec] = self._settle(spec, path, spooled.run.runtime, residence)
                    if spec not in counted and spec not in alone:
                        self._count(spec, path, spooled)
                except ModelRefused as error:
                    self.progress.say(f"left out: {error}")
                    refused.append(str(error))
                give_back_memory()
                self.progress.counted(index + 1, len(wanted))
        return loaded, tuple(refused)

    def _count(self, spec: str, model: Path, spooled: RunSpool) -> None:
        try:
            spooled.keep_kernels(spec, count_kernels(optimise(spec, model, spooled.run.runtime)))
        except (CorruptFile, InvalidValue, ModelRefused, UnknownOperator) as error:
            self.progress.say(f"kernels of {spec} are not counted: {error}")

    def _settle(self, spec: str, path: Path, runtime: Runtime, residence: Residence) -> TimedGraph:
        """Load a graph now, and again from the disk at its turns."""
        if spec.startswith("canary:"):  # in every round: never closed
            return load_graph(spec, path, runtime, MOST_SESSIONS)
        return residence.add(lambda sessions: load_graph(spec, path, runtime, sessions), path.stat().st_size)

    def _hand_in(self, spooled: RunSpool, refused: tuple[str, ...], force: bool) -> Outcome:
        uploader = Uploader(self.client, self.sleep)
        try:
            uploader.upload_run(spooled)
            # Missing tasks make the server refuse; asking all the same is the user's wish.
            table = uploader.finish_run(spooled) if force or not spooled.missing_tasks() else None
        except ServerAway as error:
            waiting = len(spooled.unsent(self.client.url))
            raise ServerAway(
                f"{error}; spooled {waiting} measurements in {spooled.folder}; upload later with:"
                f" profiler-agent upload --spool {self.spool.folder} --server {self.client.url}"
            ) from error
        return Outcome(spooled.run.id, table, refused)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
