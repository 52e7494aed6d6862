"""When a task has been measured enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType

from shared.measurements.measurement import Round, estimate_rounds

LONGEST_STEP_S = 60.0
BOUND_PERCENT = 0.0
"""Half-width of the 95 % bound at which enough networks are measured for the fit; 0 measures all.

Half the networks, chosen, give equally good kernel prices, but op prices with twice the bound.
"""
NETWORK_ROLES = ("calibration", "held_out", "verification")
NETWORK_TIMES = 2
"""A network may have so many times the rounds of an op: networks make the fit and its error."""
NETWORKS_SHARE = 0.5
"""Networks stop together, once this share of them has a reason to.

What a round of all of them has in common then cancels (other programs take caches and memory: 5 %
for minutes). When each stopped by itself, predictions of `fbnet` were off by 2.0, not 0.7 %.
"""
ISOLATED_ROUNDS = 6
"""An op alone is timed for comparison. A few percent are enough."""


@dataclass(frozen=True)
class Preset:
    """How precise a campaign is.

    Attributes:
        precision: a task is done when half its 95 % interval is below this share of the estimate,
            both of the whole graph.
        min_rounds: rounds of every task, whatever the time.
        max_rounds: most rounds of an op. A whole network has `NETWORK_TIMES` as many.
        seconds_per_task: time for the campaign, divided by the number of its tasks.
        most_redos: most rounds of a task that are thrown away because the canary was off.
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

    The noise of a difference grows with the graph's time. The difference itself may be near zero.
    """
    estimate = estimate_rounds(rounds, divisor)
    return estimate.half_width * divisor / median(timed.graph_ratio() for timed in rounds)


class StoppingRule:
    """Says when a task is done: precise enough, as many rounds as allowed, or no time left.

    Attributes:
        spent_s: seconds spent measuring. A clock that jumps (a suspend, a debugger) adds a minute
            at most.
    """

    def __init__(self, preset: Preset, tasks: int, clock_s: Callable[[], float]) -> None:
        self._preset = preset
        self._budget_s = preset.seconds_per_task * tasks
        self._clock_s = clock_s
        self._last_s = clock_s()
        self.spent_s = 0.0

    @property
    def most_redos(self) -> int:
        """Rounds of a task that may be thrown away."""
        return self._preset.most_redos

    def tick(self) -> None:
        """Count the time since the last tick. To be called after every round."""
        now_s = self._clock_s()
        self.spent_s += min(max(now_s - self._last_s, 0.0), LONGEST_STEP_S)
        self._last_s = now_s

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
        return "time" if self.spent_s > self._budget_s else None

    def have_enough(self, networks: Sequence[Sequence[Round]]) -> bool:
        """Whether whole networks, each with its rounds, are done together."""
        if any(len(rounds) < self._preset.min_rounds for rounds in networks):
            return False
        done = sum(self.find_reason(rounds, 1, NETWORK_ROLES[0]) is not None for rounds in networks)
        return done >= NETWORKS_SHARE * len(networks)
