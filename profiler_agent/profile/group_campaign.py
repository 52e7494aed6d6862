"""The campaign of a group of runs: opens their graphs, measures missing tasks, adds networks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING

from profiler_agent.host.machine import Machine
from profiler_agent.kernels.reorders import odd_reorders
from profiler_agent.ort.providers import CPU
from profiler_agent.ort.session_cache import SessionCache
from profiler_agent.profile.active_selection import ActiveSelection
from profiler_agent.profile.graph_loader import GraphLoader
from profiler_agent.profile.run_group import RunGroup
from profiler_agent.profile.settle import FEWEST_NETWORKS, settle, settle_tasks
from profiler_agent.server.graph_store import GraphStore
from profiler_agent.server.upload import Uploader
from profiler_agent.spool.run_spool import RunSpool
from profiler_agent.timing.campaign import Campaign, CanaryWatch, Subject
from profiler_agent.timing.round_timer import RoundTimer, find_thread_clock
from profiler_agent.timing.stability import StabilityJudge
from profiler_agent.timing.stopping import Preset, StoppingRule
from shared.errors import LutnasError
from shared.measurements.plan import Task
from shared.runtime import Runtime

if TYPE_CHECKING:
    from profiler_agent.profile.profile import Profiler

UNKNOWN_MEMORY_BYTES = 1_000_000_000


def measure_group(
    profiler: Profiler, group: RunGroup, preset: Preset, bound_percent: float, online: bool, begun: Set[str]
) -> dict[str, str]:
    """Measure the missing tasks; returns the graphs that ONNX Runtime refuses, with its reasons.

    Args:
        profiler: its server, spool and clock are used.
        bound_percent: half-width of the 95 % bound at which enough networks are measured; 0
            measures all.
        online: whether the server can be asked for graphs. If not, they are on the disk.
        begun: graphs of resumed runs, which go on with the bytes on the disk.

    Raises:
        LutnasError: the canary cannot be loaded, or a graph cannot be fetched.
    """
    missing = group.missing_tasks()
    if not missing and all(run.settled and not settle_tasks(list(run.measurements()), preset) for run in group.runs):
        return {}
    runtime, canary = group.runs[0].run.runtime, group.canary
    client = profiler.client if online else None
    store = GraphStore(client, profiler.spool, runtime.batch, profiler.sleep, begun, runtime.precision)
    loader = _open_graphs(profiler, group, store, missing)
    uploader = Uploader(profiler.client, profiler.sleep)
    choosers = [
        ActiveSelection(profiler.client, uploader, run, bound_percent, store.locate, profiler.progress.say)
        for run in group.runs
    ]
    judge = StabilityJudge(preset, odd=odd_reorders(group.tasks(), group.kernels()))
    watch = CanaryWatch(profiler.spool.find_usual_canary(runtime, canary))
    rng = random.Random(" ".join(run.run.id for run in group.runs))
    timer = RoundTimer(loader.loaded[canary], thread_ns=find_thread_clock(runtime))
    on_round = _after_each_round(profiler, group, preset, judge)
    with profiler.progress.bar("measuring"):
        Campaign(
            _subjects(missing, loader, group),
            timer,
            StoppingRule(preset, _number_of_tasks(group), time.monotonic),
            judge.judge,
            rng,
            profiler.sleep,
            on_round,
            watch,
            lambda: _more_subjects(choosers, loader, group),
        ).run()

    def time_again(subjects: Sequence[Subject], rounds: int) -> None:
        rounds += max(len(subject.rounds) for subject in subjects)
        rule = StoppingRule(replace(preset, min_rounds=rounds, max_rounds=rounds), 0, time.monotonic)
        for subject in subjects:
            subject.done = False
        Campaign(subjects, timer, rule, judge.judge, rng, profiler.sleep, on_round, watch).run()

    with profiler.progress.bar("measuring again"):
        for run in group.runs:
            _settle(run, loader, preset, judge, time_again, profiler.sleep)
    if watch.has_rounds:
        profiler.spool.keep_usual_canary(runtime, canary, watch.usual_ms())
    return loader.refused


def _settle(
    run: RunSpool,
    loader: GraphLoader,
    preset: Preset,
    judge: StabilityJudge,
    time_again: Callable[[Sequence[Subject], int], None],
    sleep: Callable[[float], None],
) -> None:
    measured = [each for each in run.measurements() if each.graph not in loader.refused]
    tasks = settle_tasks(measured, preset)
    loader.load([graph for graph in _graphs(tasks) if graph not in loader.loaded])
    subjects = [Subject(task, loader.loaded[task.graph]) for task in tasks if task.graph in loader.loaded]
    if len(subjects) < FEWEST_NETWORKS:
        return
    before = {each.graph: each.estimate().ratio for each in measured if each.minus is None}
    settle(subjects, before, time_again, sleep)
    for subject in subjects:
        run.keep_measurement(subject.task, subject.rounds, judge.judge(subject))


def _open_graphs(profiler: Profiler, group: RunGroup, store: GraphStore, missing: Sequence[Task]) -> GraphLoader:
    most_bytes = profiler.most_bytes or memory_to_keep_open(group.runs[0].run.runtime)
    loader = GraphLoader(store, group, SessionCache(most_bytes), profiler.progress, profiler.check)
    with profiler.progress.bar("graphs"):
        loader.load((group.canary, *_graphs(missing)))
        later = {graph for run in group.runs if not run.settled for graph in run.plan.graphs()}
        loader.keep_at_hand(sorted(later - loader.loaded.keys()))
    if group.canary not in loader.loaded:
        raise LutnasError(f"without the canary nothing can be measured: {loader.refused[group.canary]}")
    return loader


def _after_each_round(
    profiler: Profiler, group: RunGroup, preset: Preset, judge: StabilityJudge
) -> Callable[[Sequence[Subject]], None]:
    runs = [spooled.run for spooled in group.runs]
    before = len({task for run in group.runs for task in run.tasks}) - len(group.missing_tasks())

    def look(subjects: Sequence[Subject]) -> None:
        profiler.check()
        judge.sample()
        profiler.board.sample()
        profiler.board.note_progress(runs, before, subjects)
        profiler.progress.measured(subjects, preset.max_rounds)

    return look


def memory_to_keep_open(runtime: Runtime) -> int:
    """Bytes for graphs that stay open between their rounds.

    None on the CPU, where loading again takes 5 to 15 ms. Other providers compile a graph when they
    load it, some of them for minutes: they get half of what is available.
    """
    return 0 if runtime.provider == CPU else (Machine().available_bytes() or UNKNOWN_MEMORY_BYTES) // 2


def _more_subjects(choosers: Sequence[ActiveSelection], loader: GraphLoader, group: RunGroup) -> list[Subject]:
    """Subjects of newly chosen networks, with their graphs open."""
    chosen: list[Task] = []
    for chooser in choosers:
        tasks = chooser.next_tasks()
        group.add(chooser.spooled, tasks)
        chosen += tasks
    loader.load([graph for graph in _graphs(chosen) if graph not in loader.loaded])
    return _subjects(chosen, loader, group)


def _number_of_tasks(group: RunGroup) -> int:
    """Tasks of all plans, but for ops timed alone, which take few rounds."""
    return len({task for run in group.runs for task in run.plan.tasks if task.role != "isolated"})


def _graphs(tasks: Sequence[Task]) -> list[str]:
    return list(dict.fromkeys(graph for task in tasks for graph in task.graphs))


def _subjects(tasks: Sequence[Task], loader: GraphLoader, group: RunGroup) -> list[Subject]:
    loaded = loader.loaded
    return [
        group.subject(task, loaded[task.graph], None if task.minus is None else loaded[task.minus])
        for task in tasks
        if all(graph in loaded for graph in task.graphs)
    ]
