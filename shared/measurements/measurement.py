"""A measurement keeps its raw values. Agent and server derive the same statistics.

The value of a round is the 5 % quantile of the repeats, divided by that of the canary beside it.
Other programs slow the upper part of the repeats and hardly the fastest. The drift of the machine
changes graph and canary alike.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median, stdev

from shared.errors import InvalidValue
from shared.measurements.plan import ROLES, Task
from shared.runtime import Runtime, check_device_name

QUANTILE = 0.05
"""Of the repeats of a round. With 8 to 20 repeats this is just above the fastest. Held-out networks
were predicted 6 % better than with 20 %."""
QUIET_ROUNDS = 0.5
"""Share of a graph's rounds, the fastest, whose mean is its time.

Other programs use caches and memory and slow rounds down: networks with more weights than a cache
holds vary by 5 to 10 %. This mean repeats a fifth to a third better than the lower quartile."""
SHORTEST_MS, LONGEST_MS = 1e-9, 600_000.0
MOST_ROUNDS = 1000
MOST_REPEATS = 1000
MOST_COPIES = 1000
LATEST_S = 1e11
LONGEST_PROBE = 50_000
_LONGEST_NAME = 300
_LONGEST_REFERENCE = 21_000
"""The longest kernel (`shared.kernels.kernel`), with the kind of its graph before it."""
_MOST_REASONS, _LONGEST_REASON = 50, 4000
_IDENTITY = re.compile(r"[A-Za-z0-9._:-]{1,80}")


@dataclass(frozen=True)
class Round:
    """Raw repeats of a round, in ms.

    Attributes:
        minus_ms: of the subtracted graph; empty if nothing is subtracted.
        canary_ms: of the canary, before and after.
        at_s: wall-clock time in seconds since 1970, which shows the rounds that ran together.
    """

    graph_ms: tuple[float, ...]
    canary_ms: tuple[float, ...]
    minus_ms: tuple[float, ...] = ()
    at_s: float | None = None

    def __post_init__(self) -> None:
        if not (self.graph_ms and self.canary_ms):
            raise InvalidValue("canary_ms" if self.graph_ms else "graph_ms", "has no values")
        for values in (self.graph_ms, self.canary_ms, self.minus_ms):
            if len(values) > MOST_REPEATS:
                raise InvalidValue("round", f"{len(values)} repeats are more than {MOST_REPEATS}")
            for value in values:
                if not SHORTEST_MS <= value <= LONGEST_MS:
                    raise InvalidValue("round", f"{value} is not a time of {SHORTEST_MS:g} to {LONGEST_MS:g} ms")
        if self.at_s is not None and not 0 <= self.at_s < LATEST_S:
            raise InvalidValue("round.at_s", f"{self.at_s} is not within 0 to {LATEST_S:g} seconds since 1970")

    def without_raw(self) -> Round:
        """The round with its quantiles in place of the repeats. Every statistic stays the same."""
        graph_ms, canary_ms, minus_ms = (
            (quantile(values),) if values else () for values in (self.graph_ms, self.canary_ms, self.minus_ms)
        )
        return Round(graph_ms, canary_ms, minus_ms, self.at_s)

    def graph_ratio(self) -> float:
        """Time of the graph in canaries, nothing subtracted."""
        return quantile(self.graph_ms) / quantile(self.canary_ms)

    def ratio(self, divisor: int) -> float:
        """Time of the subject in canaries. Noise can make the difference of two graphs negative."""
        minus = quantile(self.minus_ms) if self.minus_ms else 0.0
        return (quantile(self.graph_ms) - minus) / divisor / quantile(self.canary_ms)


@dataclass(frozen=True)
class Verdict:
    """Whether a measurement is stable; if not, why and what to do."""

    stable: bool
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.reasons) > _MOST_REASONS or any(len(reason) > _LONGEST_REASON for reason in self.reasons):
            raise InvalidValue(
                "verdict.reasons", f"are not up to {_MOST_REASONS} texts of {_LONGEST_REASON} characters"
            )


STABLE = Verdict(True)


@dataclass(frozen=True)
class Estimate:
    """The time of a task as a ratio to the canary, with its 95 % confidence interval."""

    ratio: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval, in canaries."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Measurement:
    """All rounds of a task. The agent makes `id` from run and task."""

    id: str
    subject: str
    role: str
    graph: str
    minus: str | None
    divisor: int
    rounds: tuple[Round, ...]
    verdict: Verdict

    def __post_init__(self) -> None:
        if not _IDENTITY.fullmatch(self.id):
            raise InvalidValue("measurement.id", f"'{self.id[:90]}' is not 1 to 80 letters, digits or ._:-")
        if self.role not in ROLES:
            raise InvalidValue("measurement.role", f"'{self.role}' is none of {', '.join(ROLES)}")
        if not 1 <= self.divisor <= MOST_COPIES:
            raise InvalidValue("measurement.divisor", f"is not within 1 to {MOST_COPIES}")
        if not 1 <= len(self.rounds) <= MOST_ROUNDS:
            raise InvalidValue("measurement.rounds", f"{len(self.rounds)} are not within 1 to {MOST_ROUNDS}")
        if max(map(len, (self.subject, self.graph, self.minus or ""))) > _LONGEST_REFERENCE:
            raise InvalidValue("measurement", f"holds a text of more than {_LONGEST_REFERENCE} characters")
        if any(bool(timed.minus_ms) != (self.minus is not None) for timed in self.rounds):
            raise InvalidValue(
                "measurement.rounds", "minus_ms belongs to a task that subtracts a graph, and only there"
            )

    @classmethod
    def of_task(cls, identity: str, task: Task, rounds: Sequence[Round], verdict: Verdict = STABLE) -> Measurement:
        """The measurement that the rounds of a task make."""
        return cls(identity, task.subject, task.role, task.graph, task.minus, task.divisor, tuple(rounds), verdict)

    def estimate(self) -> Estimate:
        """Time of the subject in canaries."""
        return estimate_rounds(self.rounds, self.divisor)

    def graph_ratio(self) -> float:
        """Time of the graph in canaries, nothing subtracted."""
        return quiet_mean([timed.graph_ratio() for timed in self.rounds])

    def minus_ratio(self) -> float:
        """Time of the subtracted graph in canaries.

        Raises:
            InvalidValue: nothing is subtracted.
        """
        if self.minus is None:
            raise InvalidValue("measurement.minus", f"nothing is subtracted from {self.graph}")
        return quiet_mean([quantile(timed.minus_ms) / quantile(timed.canary_ms) for timed in self.rounds])

    def without_raw(self) -> Measurement:
        """The measurement without its repeats. Every statistic stays the same."""
        return replace(self, rounds=tuple(timed.without_raw() for timed in self.rounds))

    def canary_ms(self) -> float:
        """Median over rounds of the canary's time."""
        return median(quantile(timed.canary_ms) for timed in self.rounds)

    def raw_ms(self) -> float:
        """The subject's time by the clock, with the machine's drift."""
        values_ms = [timed.ratio(self.divisor) * quantile(timed.canary_ms) for timed in self.rounds]
        return median(values_ms) if self.rounds[0].minus_ms else quiet_mean(values_ms)


@dataclass(frozen=True)
class Run:
    """A profiling campaign: which device measured which plan with which software.

    Attributes:
        id: made by the agent.
        started_at: ISO 8601, UTC.
        probe: facts about the device (free form, for people).
    """

    id: str
    device: str
    runtime: Runtime
    space: str
    plan_id: str
    canary: str
    agent_version: str
    started_at: str
    probe: dict[str, str]

    def __post_init__(self) -> None:
        if not _IDENTITY.fullmatch(self.id):
            raise InvalidValue("run.id", f"'{self.id[:90]}' is not 1 to 80 letters, digits or ._:-")
        check_device_name(self.device)
        check_probe("run.probe", self.probe)
        named = (self.space, self.plan_id, self.canary, self.agent_version, self.started_at)
        if max(map(len, named)) > _LONGEST_NAME:
            raise InvalidValue("run", f"holds a text of more than {_LONGEST_NAME} characters")


def check_probe(field: str, probe: Mapping[str, str]) -> None:
    """Raise InvalidValue unless the facts about a device are short: whoever lists devices gets them."""
    if sum(len(name) + len(value) for name, value in probe.items()) > LONGEST_PROBE:
        raise InvalidValue(field, f"has more than {LONGEST_PROBE} characters")


def quantile(values: tuple[float, ...], share: float = QUANTILE) -> float:
    """The value below which `share` of the values lie (linear interpolation)."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def quiet_mean(values: Sequence[float]) -> float:
    """Mean of the faster half of the rounds."""
    quiet = _quiet(values)
    return math.fsum(quiet) / len(quiet)


def estimate_rounds(rounds: Sequence[Round], divisor: int) -> Estimate:
    """Time of a subject in canaries: the mean of the faster rounds, or the median of a difference.

    Noise makes a graph slower, but a difference of two graphs smaller as often as larger.
    """
    values = [timed.ratio(divisor) for timed in rounds]
    return estimate_median(values) if rounds[0].minus_ms else estimate_quiet_mean(values)


def estimate_quiet_mean(values: Sequence[float]) -> Estimate:
    """The mean of the faster half, with its 95 % interval (Tukey and McLaughlin, 1963)."""
    quiet, n = _quiet(values), len(values)
    middle = math.fsum(quiet) / len(quiet)
    if len(quiet) < 2:
        return Estimate(middle, min(values), max(values))
    # In the slower half every value becomes the slowest value of the faster half.
    winsorised = [*quiet, *[quiet[-1]] * (n - len(quiet))]
    error = stdev(winsorised) / (len(quiet) / n * math.sqrt(n))
    half = student_975(len(quiet) - 1) * error
    return Estimate(middle, middle - half, middle + half)


def student_975(freedom: int) -> float:
    """97.5 % quantile of Student's t (Abramowitz and Stegun, 1964, 26.7.5).

    Within 3 % from two degrees of freedom on.
    """
    z = 1.959963984540054
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _quiet(values: Sequence[float]) -> list[float]:
    return sorted(values)[: max(math.ceil(QUIET_ROUNDS * len(values)), 1)]


def estimate_median(values: Sequence[float]) -> Estimate:
    """The median with its 95 % interval from order statistics (Hahn and Meeker, 1991).

    With too few values for 95 %, the interval ends at the smallest and the largest value.
    """
    ordered = sorted(values)
    n = len(ordered)
    below = [math.comb(n, k) / 2**n for k in range(n + 1)]
    up_to = list(itertools.accumulate(below))
    low = sum(total <= 0.025 for total in up_to)
    high = next(k for k, total in enumerate(up_to) if total >= 0.975)
    return Estimate(median(ordered), ordered[max(low - 1, 0)], ordered[min(high, n - 1)])
