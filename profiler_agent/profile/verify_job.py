"""Measures a network for a job as a campaign measures the networks of a table.

A file loaded again is up to a percent faster or slower, depending on where its tensors lie in
memory. So on the CPU it is loaded anew in each round, and the result speaks of the network.
Networks of the table are timed in the same rounds. They tell the machine's state of the moment.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from profiler_agent.ort.session_cache import MOST_SESSIONS, SessionCache
from profiler_agent.ort.sessions import TimedGraph, load_graph
from profiler_agent.profile.group_campaign import memory_to_keep_open
from profiler_agent.spool.run_spool import measurement_id
from profiler_agent.timing.campaign import Campaign, CanaryWatch, Subject
from profiler_agent.timing.round_timer import RoundTimer, find_thread_clock
from profiler_agent.timing.stability import StabilityJudge
from profiler_agent.timing.stopping import Preset, StoppingRule
from shared.measurements.measurement import Measurement
from shared.measurements.plan import Task
from shared.runtime import Runtime

FEWEST_ROUNDS = 24
"""More than a task of a campaign needs: a verification has the last word."""
MOST_TIMES = 4
"""As many rounds as a task of a campaign; so `smoke` ends soon on a device that is emulated."""
TASKS_WORTH = 4
"""On a busy machine a verification may take the time of so many tasks of a campaign."""
LONGEST_BESIDE_OTHERS_S = 0.25
"""Of a run of the network, loaded anew, between two of the canary: slower rounds, and as many of each
reference, would take minutes."""
PAUSE_S = 0.02
"""Between rounds, so that a busy moment of the machine does not hit all of them."""


def measure_models(
    job_id: str,
    models: Sequence[tuple[Task, bytes]],
    canary: bytes,
    runtime: Runtime,
    preset: Preset,
    watch: CanaryWatch,
    check: Callable[[], None],
    sleep: Callable[[float], None],
    slow_alone: bool = True,
) -> list[Measurement]:
    """Measure networks side by side for a job; a measurement for each, in their order.

    The first alone if it or the canary is slow and `slow_alone`.

    It takes seconds, so no round is spooled. An interrupted job begins again.

    Raises:
        ModelRefused: ONNX Runtime does not load it.
    """
    judge = StabilityJudge(preset)
    cache = SessionCache(memory_to_keep_open(runtime))

    def open_model(task: Task, model: bytes) -> Subject:
        return Subject(task, cache.add(partial(load_graph, task.graph, model, runtime), len(model)))

    canary_graph = load_graph("canary", canary, runtime, MOST_SESSIONS)
    subjects = [open_model(*models[0])]
    if not slow_alone or 2 * _run_s(canary_graph) + _run_s(subjects[0].graph) <= LONGEST_BESIDE_OTHERS_S:
        subjects += [open_model(*other) for other in models[1:]]
    rule = StoppingRule(preset, TASKS_WORTH, time.monotonic)
    timer = RoundTimer(canary_graph, thread_ns=find_thread_clock(runtime))

    def on_round(all_subjects: Sequence[Subject]) -> None:
        check()
        sleep(PAUSE_S)

    rng = random.Random(job_id)
    Campaign(subjects, timer, rule, judge.judge, rng, sleep, on_round, watch).run()
    return [
        Measurement.of_task(measurement_id(job_id, subject.task), subject.task, subject.rounds, judge.judge(subject))
        for subject in subjects
    ]


def to_verify(preset: Preset) -> Preset:
    """The preset with the rounds of a verification."""
    least = min(FEWEST_ROUNDS, MOST_TIMES * preset.min_rounds)
    return replace(preset, min_rounds=max(least, preset.min_rounds), max_rounds=max(least, preset.max_rounds))


def _run_s(graph: TimedGraph) -> float:
    """Of a run, with what a round does before it: a closed graph is loaded."""
    started_s = time.monotonic()
    graph.acquire()
    try:
        graph.run()
        return time.monotonic() - started_s
    finally:
        graph.release()
