"""The whole of a profile: the plans, the runs, their campaign, the uploads, the tables.

A profile has one run and one table per space; the campaign serves all its runs.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from profiler_agent.host.probe import probe
from profiler_agent.ort.half_precision import check_half_precision
from profiler_agent.ort.providers import CPU
from profiler_agent.ort.sessions import local_runtime
from profiler_agent.profile.active_selection import first_part
from profiler_agent.profile.group_campaign import measure_group
from profiler_agent.profile.run_group import RunGroup
from profiler_agent.profile.status_report import StatusBoard
from profiler_agent.progress import Progress
from profiler_agent.server.graph_store import GraphStore
from profiler_agent.server.server_client import ServerClient
from profiler_agent.server.upload import Uploader
from profiler_agent.spool.run_spool import RunSpool
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.stability import doubt_lines
from profiler_agent.timing.stopping import BOUND_PERCENT, PRESETS, Preset
from shared import __version__
from shared.errors import InvalidValue, LutnasError, NotFound, ServerAway
from shared.http.retry import retry
from shared.measurements.measurement import Run, check_device_name
from shared.measurements.plan import Plan
from shared.runtime import Runtime, check_precision
from shared.spaces import Space
from shared.wire import from_wire, to_wire


@dataclass(frozen=True)
class ProfileRequest:
    """What tables are wanted.

    Attributes:
        spaces: one table for each; all are measured in one campaign.
        new: measure although there is an unfinished run, or a table already.
        force: ask the server for the table although some graphs could not be measured.
        bound_percent: half-width of the 95 % bound at which enough networks are measured; 0 measures all of the plan.
        provider: execution provider, by its short name or ONNX Runtime's own.
        optimisation: graph optimisation level.
    """

    device: str
    spaces: tuple[Space, ...]
    calibration: int = 40
    held_out: int = 40
    seed: int = 0
    threads: int = 1
    batch: int = 1
    precision: str = "fp32"
    preset: Preset = PRESETS["standard"]
    new: bool = False
    force: bool = False
    bound_percent: float = BOUND_PERCENT
    provider: str = CPU
    optimisation: str = "all"

    def __post_init__(self) -> None:
        check_device_name(self.device)
        check_precision(self.precision, "--precision")
        if not self.spaces or len(set(self.spaces)) < len(self.spaces):
            raise InvalidValue("space", "is none, or the same twice")

    def runtime(self) -> Runtime:
        """What of this machine is to be measured.

        Raises:
            WrongUse: it is not here, or a setting is outside its domain.
        """
        return local_runtime(self.threads, self.batch, self.provider, self.optimisation, self.precision)


@dataclass(frozen=True)
class Outcome:
    """What became of the run of one space.

    Attributes:
        run_id: of the run that made the table.
        space: string form of the space.
        table: what the server says of the table; None if there is none.
        refused: graphs that ONNX Runtime does not load, with its reasons.
        measured: whether anything had to be measured or uploaded for it.
        problem: why it could not be handed in.
        doubts: measurements that are not to be believed as they are, alike ones in one line, for people.
    """

    run_id: str
    space: str
    table: Mapping[str, Any] | None
    refused: tuple[str, ...] = ()
    measured: bool = True
    problem: LutnasError | None = None
    doubts: tuple[str, ...] = ()


@dataclass
class Profiler:
    """Does profiling runs for one server with one spool.

    Attributes:
        check: called between rounds; raises to stop (a cancelled job).
        most_bytes: memory for graphs that stay open between their rounds; 0 leaves it to the provider.
        board: where it says how far it is.
        asks_server: without, plan and graphs come from the spool, and what is measured stays there.
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
    board: StatusBoard = field(default_factory=StatusBoard)
    asks_server: bool = True

    def profile(self, request: ProfileRequest) -> tuple[Outcome, ...]:
        """Measure what is not measured yet in one campaign, and have the server make each space's table.

        Returns one outcome per space, in the request's order.

        Raises:
            ServerAway: the plans and graphs are not known here.
            LutnasError: as the message says.
        """
        runtime = request.runtime()
        description = self.probe()
        online = self._greet(request.device, description)
        plans = [self._plan(space, request, online) for space in request.spaces]
        if runtime.precision == "fp16":
            self._check_half_precision(plans[0], runtime, online)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        wanted = [_new_run(plan, request.device, runtime, now, description) for plan in plans]
        with self.spool.measuring(self.wait_for_others):
            opened = [self._open(like, plan, request, online) for like, plan in zip(wanted, plans, strict=True)]
            runs = [found for found in opened if isinstance(found, RunSpool)]
            begun = {graph for run in runs if run.run not in wanted for graph in run.graphs}
            wishes = request.preset, request.bound_percent
            refused = measure_group(self, RunGroup(runs), *wishes, online, begun) if runs else {}
        return tuple(self._upload_runs(opened, refused, request.force))

    def _open(self, like: Run, plan: Plan, request: ProfileRequest, online: bool) -> RunSpool | Outcome:
        """The run to measure: the one that was begun, or a new one; or what there is of it already."""
        spooled = None if request.new else self.spool.find_unfinished(like)
        if spooled is not None:
            if not request.bound_percent and not spooled.settled:
                spooled.choose_all()
            tasks = spooled.tasks
            done = len(tasks) - len(spooled.missing_tasks())
            self.progress.say(f"resuming run {spooled.run.id}: {done} of {len(tasks)} tasks are measured")
            return spooled
        existing = None if request.new else self._find_table(like, online)
        if existing is not None:
            return existing
        spooled, first = self.spool.new_run(like, plan), first_part(plan)
        if first is not None and online and request.bound_percent:
            spooled.begin_choosing(first)
        return spooled

    def _check_half_precision(self, plan: Plan, runtime: Runtime, online: bool) -> None:
        store = GraphStore(self.client if online else None, self.spool, runtime.batch, self.sleep, precision="fp16")
        network = plan.tasks[-1].graph
        check_half_precision(network, store.locate(network), runtime)

    def carry_out(self, plan: Plan, device: str, runtime: Runtime, preset: Preset, new: bool = False) -> Outcome:
        """Measure a plan that is at hand, or what an unfinished run of it lacks, and hand it in, complete or not.

        Raises:
            LutnasError: as the message says; what is measured is spooled.
        """
        description = self.probe()
        online = self._greet(device, description)
        like = _new_run(plan, device, runtime, datetime.now(UTC).isoformat(timespec="seconds"), description)
        with self.spool.measuring(self.wait_for_others):
            found = None if new else self.spool.find_unfinished(like)
            spooled = found or self.spool.new_run(like, plan)
            begun = set(spooled.graphs) if found else set()
            refused = measure_group(self, RunGroup([spooled]), preset, BOUND_PERCENT, online, begun)
        (outcome,) = self._upload_runs([spooled], refused, force=True)
        if outcome.problem is not None:
            raise outcome.problem
        return outcome

    def _greet(self, device: str, description: dict[str, str]) -> bool:
        if not self.asks_server:
            return False
        try:
            retry(lambda: self.client.register_device(device, description), 2, self.sleep)
        except ServerAway as error:
            self.progress.say(f"{error}; going on with what is in {self.spool.folder}")
            return False
        return True

    def _plan(self, space: Space, request: ProfileRequest, online: bool) -> Plan:
        wanted = (str(space), request.calibration, request.held_out, request.seed)
        key = plan_key(*wanted)
        if online:
            plan = retry(lambda: self.client.fetch_plan(*wanted), sleep=self.sleep)
            self.spool.keep_known(key, to_wire(plan))
            return plan
        known = self.spool.find_known(key)
        if known is None:
            away = f"no answer from {self.client.url}, and " if self.asks_server else ""
            raise ServerAway(f"{away}{self.spool.folder} has no such plan from before")
        return from_wire(Plan, known)

    def _find_table(self, like: Run, online: bool) -> Outcome | None:
        """The server's table, if it was made from the same plan by the same agent version."""
        if not online:
            finished = self.spool.find_finished(like)
            if finished is None or (self.asks_server and next(finished.unsent(self.client.url), None) is not None):
                return None
            return Outcome(finished.run.id, like.space, finished.read_answer(), measured=False)
        table = self.client.find_table(like.device, like.space, like.runtime)
        if table is None or table.agent_version != __version__ or table.canary != like.canary:
            return None
        try:
            same = any(self.client.fetch_run(run).plan_id == like.plan_id for run in table.runs)
        except NotFound:
            return None
        answer = to_wire(table) | {"hash": table.hash}
        return Outcome(table.runs[-1], like.space, answer, measured=False) if same else None

    def _upload_runs(
        self, opened: Sequence[RunSpool | Outcome], refused: Mapping[str, str], force: bool
    ) -> Iterator[Outcome]:
        """Hand in one run after the other; one that the server refuses does not hold up the others."""
        runs = [found for found in opened if isinstance(found, RunSpool)]
        away: LutnasError | None = None
        for found in opened:
            if isinstance(found, Outcome):
                yield found
                continue
            table, problem = None, away
            if away is None and self.asks_server:
                try:
                    table = self._upload(found, force)
                except ServerAway as error:
                    problem = away = self._say_how_to_upload_later(runs, error)
                except LutnasError as error:
                    problem = error
            of_run = tuple(reason for graph, reason in refused.items() if graph in found.graphs)
            doubts = doubt_lines(found.measurements())
            yield Outcome(found.run.id, found.run.space, table, of_run, problem=problem, doubts=doubts)

    def _upload(self, spooled: RunSpool, force: bool) -> dict[str, Any] | None:
        uploader = Uploader(self.client, self.sleep)
        uploader.upload_run(spooled)
        # Missing tasks make the server refuse; asking all the same is the user's wish.
        return uploader.finish_run(spooled) if force or not spooled.missing_tasks() else None

    def _say_how_to_upload_later(self, runs: Sequence[RunSpool], error: ServerAway) -> ServerAway:
        waiting = sum(1 for spooled in runs for _ in spooled.unsent(self.client.url))
        return ServerAway(
            f"{error}; spooled {waiting} measurements in {self.spool.folder}; upload later with:"
            f" profiler-agent upload --spool {self.spool.folder} --lut-url {self.client.url}"
        )


def plan_key(space: str, calibration: int, held_out: int, seed: int) -> list[str]:
    """What a plan goes by among what a spool knows."""
    return ["plan", space, str(calibration), str(held_out), str(seed)]


def _new_run(plan: Plan, device: str, runtime: Runtime, now: str, description: dict[str, str]) -> Run:
    return Run(str(uuid.uuid4()), device, runtime, plan.space, plan.id, plan.canary, __version__, now, description)
