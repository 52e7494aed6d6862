"""Measures one network as the table's networks were measured, so that the result can be held against a prediction.

The same file loaded again is up to a percent faster or slower, by where its tensors come to lie in memory; as in a
campaign it is loaded anew in each round, so that the result speaks of the network and not of one loading.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from profiler_agent.ort.session_cache import MOST_SESSIONS, Residence
from profiler_agent.ort.sessions import load_graph
from profiler_agent.timing.campaign import Campaign, CanaryWatch, Subject
from profiler_agent.timing.round_timer import RoundTimer
from profiler_agent.timing.stability import StabilityJudge
from profiler_agent.timing.stopping import Preset, StoppingRule
from shared.measurements.measurement import Measurement, Round, Verdict
from shared.measurements.plan import Task
from shared.runtime import Runtime

FEWEST_ROUNDS = 24
"""More than a task of a campaign has at least: a verification has the last word."""
TASKS_WORTH = 4
"""A verification may take the time of so many tasks of a campaign, should the machine be busy."""
PAUSE_S = 0.02
"""Between rounds: one busy moment of the machine shall not hit all of them."""


class _NoJournal:
    """A verification takes seconds: begun again rather than resumed."""

    def keep_round(self, task: Task, one: Round, disturbed: bool) -> None:
        return

    def keep_measurement(self, task: Task, rounds: Sequence[Round], verdict: Verdict) -> None:
        return


def measure_model(
    job_id: str,
    task: Task,
    model: bytes,
    canary: bytes,
    runtime: Runtime,
    preset: Preset,
    watch: CanaryWatch,
    check: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Measurement:
    """Measure a network for a job.

    Raises:
        ModelRefused: ONNX Runtime does not load it.
    """
    judge = StabilityJudge(preset)
    preset = replace(
        preset, min_rounds=max(FEWEST_ROUNDS, preset.min_rounds), max_rounds=max(FEWEST_ROUNDS, preset.max_rounds)
    )
    rule = StoppingRule(preset, TASKS_WORTH, time.monotonic)
    network = Residence().add(lambda sessions: load_graph(task.graph, model, runtime, sessions), len(model))
    subject = Subject(task, network)
    timer = RoundTimer(load_graph("canary", canary, runtime, MOST_SESSIONS), clock_ns)

    def on_round(all_subjects: Sequence[Subject]) -> None:
        check()
        sleep(PAUSE_S)

    rng = random.Random(job_id)
    Campaign([subject], timer, rule, judge.judge, _NoJournal(), rng, sleep, on_round, watch).run()
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{job_id} {task.role} {task.graph}"))
    return Measurement(
        identity,
        task.subject,
        task.role,
        task.graph,
        task.minus,
        task.divisor,
        tuple(subject.rounds),
        judge.judge(subject),
    )
