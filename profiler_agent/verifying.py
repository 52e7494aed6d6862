"""Measures one network as the table's networks were measured, so that the result can be held against a prediction.

The same file loaded again is up to a percent faster or slower, by where its tensors come to lie in memory; several
sessions take turns, so that the result speaks of the network and not of one loading.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence

from profiler_agent.campaign import Campaign, CanaryWatch, Subject
from profiler_agent.round_timer import RoundTimer
from profiler_agent.sessions import load_graph
from profiler_agent.stability import StabilityJudge
from profiler_agent.stopping import Preset, StoppingRule
from shared.measurement import Measurement, Round, Verdict
from shared.plan import Task
from shared.runtime import Runtime

SESSIONS = 4
PAUSE_S = 0.05
"""Between rounds: one busy moment of the machine shall not hit all of them."""


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
    subjects = [Subject(task, load_graph(task.graph, model, runtime)) for _ in range(SESSIONS)]
    timer = RoundTimer(load_graph("canary", canary, runtime), clock_ns)
    rule = StoppingRule(preset, len(subjects), time.monotonic)

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
