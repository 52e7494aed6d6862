"""When a task has been measured enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType

from shared.measurements.measurement import Round, estimate_rounds

LONGEST_STEP_S = 60.0
BOUND_PERCENT = 0.0
"""Half-width of the 95 % bound at which enough whole networks are measured for the fit; 0: all of the plan's.

With half the networks, chosen, kernel prices are as good, but the bound by op prices is twice as wide.
"""
NETWORK_ROLES = ("calibration", "held_out", "verification")
NETWORK_TIMES = 2
"""Networks make the fit, and say how good it is: they may have so many times the rounds of an op. Of 30 rounds beside a
restless neighbour `fbnet` at 128 was 2.2 % off, of 30 quieter ones 1.1 %."""
NETWORKS_SHARE = 0.5
"""Networks stop together, once this share of them has a reason to. They are compared with one another, and what a round
of all of them has in common then cancels (other programs take caches and memory: 5 % for minutes). When each stopped
for itself, predictions of `fbnet` were off by 2.0 % instead of 0.7 %, from the same rounds."""
ISOLATED_ROUNDS = 6
"""An op alone is timed for comparison: a few percent are enough."""


@dataclass(frozen=True)
class Preset:
    """How precise a campaign shall be.

    Attributes:
        precision: half the 95 % interval over the estimate, both of the whole graph, at which a task is done.
        min_rounds: rounds that every task gets, whatever the time.
        max_rounds: rounds after which an op is done however imprecise; a whole network has `NETWORK_TIMES` as many.
        seconds_per_task: the campaign's time is up after this times the number of its tasks.
        most_redos: rounds of a task that are thrown away, at most, since the canary was off.
    """

    name: str
    precision: float
    min_rounds: int
    max_rounds: int
    seconds_per_task: float
    most_redos: int = 15


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset("smoke", 0.005, 2, 2, 0.0, most_redos=0),
            Preset("quick", 0.02, 6, 10, 1.0),
            Preset("standard", 0.01, 16, 30, 2.6),
            Preset("thorough", 0.005, 24, 80, 10.0),
        )
    }
)


def precision_reached(rounds: Sequence[Round], divisor: int) -> float:
    """Half the interval of the task's value, as a share of the whole graph's time.

    For a difference of two graphs the graph's time is what the noise grows with; the value itself may be near zero.
    """
    estimate = estimate_rounds(rounds, divisor)
    return estimate.half_width * divisor / median(timed.graph_ratio() for timed in rounds)


class ActiveTime:
    """Seconds spent measuring. A clock that jumps (the machine slept, a debugger stopped it) adds little or nothing."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._last_s = clock_s()
        self.spent_s = 0.0

    def tick(self) -> None:
        """Count the time since the last tick."""
        now_s = self._clock_s()
        self.spent_s += min(max(now_s - self._last_s, 0.0), LONGEST_STEP_S)
        self._last_s = now_s


class StoppingRule:
    """Says of one task whether it is done: precise enough, as many rounds as there may be, or no time left."""

    def __init__(self, preset: Preset, tasks: int, clock_s: Callable[[], float]) -> None:
        self._preset = preset
        self._budget_s = preset.seconds_per_task * tasks
        self._time = ActiveTime(clock_s)

    @property
    def most_redos(self) -> int:
        """Rounds of a task that may be thrown away."""
        return self._preset.most_redos

    def tick(self) -> None:
        """To be called after every round, so that a jump of the clock is told from time spent."""
        self._time.tick()

    def find_reason(self, rounds: Sequence[Round], divisor: int, role: str = "") -> str | None:
        """Why the task is done; None as long as it is not."""
        if role == "isolated":
            return "isolated" if len(rounds) >= min(ISOLATED_ROUNDS, self._preset.max_rounds) else None
        if len(rounds) < self._preset.min_rounds:
            return None
        if precision_reached(rounds, divisor) <= self._preset.precision:
            return "precise"
        if len(rounds) >= self._preset.max_rounds * (NETWORK_TIMES if role in NETWORK_ROLES else 1):
            return "rounds"
        return "time" if self._time.spent_s > self._budget_s else None

    def have_enough(self, networks: Sequence[Sequence[Round]]) -> bool:
        """Whether whole networks, each with its rounds, are done together."""
        if any(len(rounds) < self._preset.min_rounds for rounds in networks):
            return False
        done = sum(self.find_reason(rounds, 1, NETWORK_ROLES[0]) is not None for rounds in networks)
        return done >= NETWORKS_SHARE * len(networks)
