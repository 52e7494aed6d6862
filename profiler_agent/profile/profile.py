"""A profile from its plans to its tables: runs, a campaign, uploads.

A profile has a run and a table for each space. A single campaign serves all its runs.
"""

from __future__ import annotations

import shlex
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
from profiler_agent.timing.stability import describe_unstable
from profiler_agent.timing.stopping import BOUND_PERCENT, PRESETS, Preset
from shared import __version__
from shared.errors import InvalidValue, LutnasError, NotFound, ServerAway
from shared.http.retry import retry
from shared.measurements.measurement import Run
from shared.measurements.plan import Plan
from shared.runtime import Runtime, check_device_name, check_precision
from shared.spaces import Space
from shared.wire import from_wire, to_wire

NOBODY = "http://127.0.0.1:9"
"""The server of a profile that asks none."""


@dataclass(frozen=True)
class ProfileRequest:
    """The wanted tables.

    Attributes:
        spaces: a table for each; all are measured in one campaign.
        new: measure although there is an unfinished run, or a table already.
        force: ask the server for the table although some graphs could not be measured.
        bound_percent: half-width of the 95 % bound at which enough networks are measured; 0
            measures all of the plan.
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
        """The runtime to measure.

        Raises:
            WrongUse: it is not here, or a setting is outside its domain.
        """
        return local_runtime(self.threads, self.batch, self.provider, self.optimisation, self.precision)


@dataclass(frozen=True)
class Outcome:
    """What became of the run of a space.

    Attributes:
        table: what the server says of it; None if there is none.
        refused: graphs that ONNX Runtime does not load, with its reasons.
        measured: whether anything had to be measured or uploaded for it.
        problem: why it could not be handed in.
        doubts: reasons not to trust measurements, a line for each kind, for people.
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
    """Does profiling runs for a server with a spool.

    Attributes:
        check: called between rounds; raises to stop (a cancelled job).
        most_bytes: memory for graphs that stay open between their rounds; 0 leaves it to the
            provider.
        board: told how far it is.
        asks_server: False takes plan and graphs from the spool and leaves all measurements there.
        takes_finished: False measures although the same was measured before.
    """

    client: ServerClient
    spool: Spool
    progress: Progress
    sleep: Callable[[float], None] = time.sleep
    check: Callable[[], None] = field(default=lambda: None)
    wait_for_others: bool = False
    most_bytes: int = 0
    board: StatusBoard = field(default_factory=StatusBoard)
    asks_server: bool = True
    takes_finished: bool = True

    def profile(self, request: ProfileRequest) -> tuple[Outcome, ...]:
        """Measure what is missing in one campaign, and have the server make each space's table.

        Returns an outcome per space, in the request's order.

        Raises:
            ServerAway: the plans and graphs are not known here.
        """
        runtime = request.runtime()
        description = probe()
        online = self._register(request.device, description)
        client = self.client if online else None
        away = f"no answer from {self.client.url}, and " if self.asks_server else ""
        plans = [get_plan(client, self.spool, space, request, self.progress.say, away) for space in request.spaces]
        if runtime.precision == "fp16":
            store = GraphStore(client, self.spool, runtime.batch, self.sleep, precision="fp16")
            network = plans[0].tasks[-1].graph
            check_half_precision(network, store.locate(network), runtime)
        wanted = [_new_run(plan, request.device, runtime, description) for plan in plans]
        with self.spool.measuring_lock(self.wait_for_others):
            opened = [self._open(like, plan, request, online) for like, plan in zip(wanted, plans, strict=True)]
            runs = [found for found in opened if isinstance(found, RunSpool)]
            begun = {graph for run in runs if run.run not in wanted for graph in run.graphs}
            wishes = request.preset, request.bound_percent
            refused = measure_group(self, RunGroup(runs), *wishes, online, begun) if runs else {}
        return tuple(self._upload_runs(opened, refused, request.force))

    def _open(self, like: Run, plan: Plan, request: ProfileRequest, online: bool) -> RunSpool | Outcome:
        """The run to measure, begun or new; or the outcome that there is already."""
        spooled = None if request.new else self.spool.find_run(like, finished=False)
        if spooled is not None:
            if not request.bound_percent and not spooled.settled:
                spooled.choose_all()
            tasks = spooled.tasks
            done = len(tasks) - len(spooled.missing_tasks())
            self.progress.say(f"resuming run {spooled.run.id}: {done} of {len(tasks)} tasks are measured")
            return spooled
        existing = None if request.new or not self.takes_finished else self._find_table(like, online)
        if existing is not None:
            return existing
        spooled, first = self.spool.new_run(like, plan), first_part(plan)
        if first is not None and online and request.bound_percent:
            spooled.begin_choosing(first)
        return spooled

    def carry_out(self, plan: Plan, device: str, runtime: Runtime, preset: Preset, new: bool = False) -> Outcome:
        """Measure a plan, or what an unfinished run of it lacks, and hand it in, complete or not."""
        description = probe()
        online = self._register(device, description)
        like = _new_run(plan, device, runtime, description)
        with self.spool.measuring_lock(self.wait_for_others):
            found = None if new else self.spool.find_run(like, finished=False)
            spooled = found or self.spool.new_run(like, plan)
            begun = set(spooled.graphs) if found else set()
            refused = measure_group(self, RunGroup([spooled]), preset, BOUND_PERCENT, online, begun)
        (outcome,) = self._upload_runs([spooled], refused, force=True)
        if outcome.problem is not None:
            raise outcome.problem
        return outcome

    def _register(self, device: str, description: dict[str, str]) -> bool:
        if not self.asks_server:
            return False
        try:
            retry(lambda: self.client.register_device(device, description), 2, self.sleep)
        except ServerAway as error:
            self.progress.say(f"{error}; going on with what is in {self.spool.folder}")
            return False
        return True

    def _find_table(self, like: Run, online: bool) -> Outcome | None:
        """The server's table, if it was made from the same plan by the same agent version."""
        if not online:
            finished = self.spool.find_run(like, finished=True)
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
        """Hand in one run after the other. A refused run stops no other."""
        runs = [found for found in opened if isinstance(found, RunSpool)]
        uploader, away = Uploader(self.client, self.sleep), None
        for found in opened:
            if isinstance(found, Outcome):
                yield found
                continue
            table: dict[str, Any] | None = None
            problem: LutnasError | None = away
            if away is None and self.asks_server:
                try:
                    uploader.upload_run(found)
                    if force or not found.missing_tasks():
                        table = uploader.finish_run(found)
                except ServerAway as error:
                    problem = away = self._say_how_to_upload_later(runs, error)
                except LutnasError as error:
                    problem = error
            of_run = tuple(reason for graph, reason in refused.items() if graph in found.graphs)
            doubts = describe_unstable(found.measurements())
            yield Outcome(found.run.id, found.run.space, table, of_run, problem=problem, doubts=doubts)

    def _say_how_to_upload_later(self, runs: Sequence[RunSpool], error: ServerAway) -> ServerAway:
        waiting = sum(1 for spooled in runs for _ in spooled.unsent(self.client.url))
        return ServerAway(
            f"{error}; spooled {waiting} measurements in {self.spool.folder}; upload later with:"
            f" profiler-agent upload --spool {shlex.quote(str(self.spool.folder))} --lut-url {self.client.url}"
        )


def get_plan(
    client: ServerClient | None,
    spool: Spool,
    space: Space,
    request: ProfileRequest,
    say: Callable[[str], None],
    away: str = "",
) -> Plan:
    """The plan of a space from the server, or without a server the last one from the spool.

    Raises:
        ServerAway: there is neither; its text begins with `away`.
    """
    key = plan_key(space, request)
    if client is not None:
        try:
            plan = retry(lambda: client.fetch_plan(str(space), request.calibration, request.held_out, request.seed))
        except ServerAway as error:
            away = f"{error}, and "
            say(f"{error}; going on with what is in {spool.folder}")
        else:
            spool.keep_known(key, to_wire(plan))
            return plan
    known = spool.find_known(key)
    if known is None:
        raise ServerAway(f"{away}{spool.folder} has no such plan from before")
    return from_wire(Plan, known)


def plan_key(space: Space, request: ProfileRequest) -> list[str]:
    """Names the plan of a space in the spool."""
    return ["plan", str(space), str(request.calibration), str(request.held_out), str(request.seed)]


def _new_run(plan: Plan, device: str, runtime: Runtime, description: dict[str, str]) -> Run:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(str(uuid.uuid4()), device, runtime, plan.space, plan.id, plan.canary, __version__, now, description)
