"""Measures all tasks of a plan in rounds. Each round takes the tasks in a new random order.

A round with a disturbed canary is not averaged in. It is measured again after a pause, a limited
number of times. Then the last round is kept, and the measurement says so.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.spool.run_spool import RunSpool
from profiler_agent.timing.round_timer import RoundTimer, TimedRound
from profiler_agent.timing.stopping import NETWORK_ROLES, StoppingRule
from shared.errors import LutnasError
from shared.measurements.measurement import Round, Verdict, quantile
from shared.measurements.plan import Task

COOL_DOWN_S = 0.5
"""Pause when all tasks of a round met a busy machine. The pause is shorter when fewer did."""
MOST_SPOILT_ROUNDS = 50
"""In a row. One clock jump spoils one round. A clock that spoils so many is of no use."""
CHOOSING_ROUNDS = 6
"""After these it shows which networks are worth measuring."""
SLOW_CANARY = 1.10
UNEVEN_CANARY = 1.10
CANARY_WINDOW = 101
CANARY_QUANTILE = 0.2


@dataclass
class Subject:
    """A task with its loaded graphs and its rounds so far.

    Attributes:
        runs: keep each round and the finished measurement at once.
        disturbed: rounds that were kept although the canary was disturbed.
        redos: rounds thrown away.
    """

    task: Task
    graph: TimedGraph
    minus: TimedGraph | None = None
    rounds: list[Round] = field(default_factory=list)
    disturbed: int = 0
    runs: Sequence[RunSpool] = ()
    redos: int = 0
    done: bool = False


class CanaryWatch:
    """Says whether a round was disturbed, by the canary of that round and of the rounds before.

    A neighbour on the other thread of the same core slows a convolution by a fifth and a small op
    by a half. The ratio to the canary does not cancel that. So a round counts as disturbed once the
    canary is a tenth slower than it mostly is at its best. The window moves with a machine that
    slows down.

    Args:
        usual_ms: what an earlier campaign found. It helps a campaign that begins on a busy machine.
    """

    def __init__(self, usual_ms: float | None = None) -> None:
        known = [] if usual_ms is None else [usual_ms] * CANARY_WINDOW
        self._recent_ms: deque[float] = deque(known, maxlen=CANARY_WINDOW)

    def is_disturbed(self, timed: TimedRound) -> bool:
        """Whether the canary is slower than in earlier rounds, or differs before and after."""
        now_ms = quantile(timed.round.canary_ms)
        self._recent_ms.append(now_ms)
        sides = sorted((timed.canary_before_ms, timed.canary_after_ms))
        return sides[1] > UNEVEN_CANARY * sides[0] or now_ms > SLOW_CANARY * self.usual_ms()

    @property
    def has_rounds(self) -> bool:
        """Whether any round was seen. A resumed campaign may have no round left to measure."""
        return bool(self._recent_ms)

    def usual_ms(self) -> float:
        """The canary's time on this machine when nobody disturbs."""
        return quantile(tuple(self._recent_ms), CANARY_QUANTILE)


@dataclass
class Campaign:
    """Rounds over subjects. Subjects may have rounds from before an interruption.

    Attributes:
        judge: gives the verdict on a finished subject.
        on_round: called after every round.
        more: further subjects, asked for after `CHOOSING_ROUNDS` rounds of the others; none ends
            it.
    """

    subjects: Sequence[Subject]
    timer: RoundTimer
    rule: StoppingRule
    judge: Callable[[Subject], Verdict]
    rng: random.Random
    sleep: Callable[[float], None]
    on_round: Callable[[Sequence[Subject]], None] = lambda subjects: None
    watch: CanaryWatch = field(default_factory=CanaryWatch)
    more: Callable[[], Sequence[Subject]] = lambda: ()
    _choosing: bool = field(default=True, init=False)
    _spoilt: int = field(default=0, init=False)

    def run(self) -> None:
        """Measure until every subject is done and `more` returns none."""
        while True:
            self._add_more()
            active = self._finish_done()
            if not active:
                return
            again = self._time_each(active)
            if again:
                self.sleep(COOL_DOWN_S * len(again) / len(active))
                self._time_each(again)

    def _add_more(self) -> None:
        """Add subjects after a few rounds of the others, so that all are measured side by side."""
        unfinished = [subject for subject in self.subjects if not subject.done and subject.task.role != "isolated"]
        if self._choosing and all(len(subject.rounds) >= CHOOSING_ROUNDS for subject in unfinished):
            fresh = self.more()
            self.subjects = [*self.subjects, *fresh]
            self._choosing = bool(fresh)

    def _finish_done(self) -> list[Subject]:
        """Finish what was measured enough; returns the other subjects."""
        active = [subject for subject in self.subjects if not subject.done]
        networks = [subject for subject in active if subject.task.role in NETWORK_ROLES]
        enough = self.rule.have_enough([network.rounds for network in networks])
        for subject in active:
            task = subject.task
            by_itself = self.rule.find_reason(subject.rounds, task.divisor, task.role) is not None
            if enough if task.role in NETWORK_ROLES else by_itself:
                verdict = self.judge(subject)
                for run in subject.runs:
                    run.keep_measurement(subject.task, subject.rounds, verdict)
                subject.done = True
        return [subject for subject in active if not subject.done]

    def _check_clock(self, timed: TimedRound | None) -> None:
        self._spoilt = 0 if timed is not None else self._spoilt + 1
        if self._spoilt > MOST_SPOILT_ROUNDS:
            raise LutnasError(
                f"the clock jumped, or the machine stood still, in each of {self._spoilt} rounds:"
                " run `profiler-agent doctor`; what is measured is kept"
            )

    def _time_each(self, subjects: Sequence[Subject]) -> list[Subject]:
        """One round of each subject; returns those whose round was thrown away."""
        again = []
        for subject in self.rng.sample(subjects, len(subjects)):
            timed = self.timer.time(subject.graph, subject.minus)
            self._check_clock(timed)
            off = timed is not None and self.watch.is_disturbed(timed)
            if timed is None or (off and subject.redos < self.rule.most_redos):
                subject.redos += 1
                again.append(subject)
            else:
                subject.rounds.append(timed.round)
                subject.disturbed += off
                for run in subject.runs:
                    run.keep_round(subject.task, timed.round, off)
            self.rule.tick()
            self.on_round(self.subjects)
        return again
