"""Measures one network as the table's networks were measured, so that the result can be held against a prediction.

The same file loaded again is up to a percent faster or slower, by where its tensors come to lie in memory; several
sessions take turns, so that the result speaks of the network and not of one loading.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from profiler_agent.campaign import Campaign, CanaryWatch, Subject
from profiler_agent.round_timer import RoundTimer
from profiler_agent.sessions import load_graph
from profiler_agent.stability import StabilityJudge
from profiler_agent.stopping import Preset, StoppingRule
from shared.measurement import Measurement, Round, Verdict
from shared.plan import Task
from shared.runtime import Runtime

SESSIONS = 4
FEWEST_ROUNDS = 6
"""Of one session: with fewer the interval of its median says nothing."""
PAUSE_S = 0.02
"""Between rounds: one busy moment of the machine shall not hit all of them."""


def shared_out(preset: Preset) -> Preset:
    """The preset of each of the sessions that take turns: together they have about as many rounds as one task has."""
    return replace(
        preset,
        min_rounds=max(FEWEST_ROUNDS, preset.min_rounds // SESSIONS),
        max_rounds=max(FEWEST_ROUNDS + 2, preset.max_rounds // SESSIONS),
    )


class _NoJournal:
    """A verification takes seconds: begun again rather than resumed."""

    def keep_round(self, task: Task, one: Round, disturbed: bool) -> None:
        return

    def keep_measurement(self, task: Task, rounds: Sequence[Round], verdict: Verdict) -> None:
        return


def verify(
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
    rule = StoppingRule(shared_out(preset), SESSIONS, time.monotonic)
    subjects = [Subject(task, load_graph(task.graph, model, runtime, sessions=1)) for _ in range(SESSIONS)]
    timer = RoundTimer(load_graph("canary", canary, runtime), clock_ns)

    def on_round(all_subjects: Sequence[Subject]) -> None:
        check()
        sleep(PAUSE_S)

    rng = random.Random(job_id)
    Campaign(subjects, timer, rule, lambda subject: Verdict(True), _NoJournal(), rng, sleep, on_round, watch).run()
    rounds = [one for in_turn in zip(*(s.rounds for s in subjects), strict=False) for one in in_turn]
    together = Subject(task, subjects[0].graph, rounds=rounds, disturbed=sum(s.disturbed for s in subjects))
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{job_id} {task.role} {task.graph}"))
    return Measurement(
        identity, task.subject, task.role, task.graph, task.minus, task.divisor, tuple(rounds), judge.judge(together)
    )
