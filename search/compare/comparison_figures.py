"""What strategies came to, measured the same way for all of them.

A unit is one strategy with one seed. Its networks are scored by a one-shot supernet that no strategy trained, on images
of other splits (`judge`), and ranked among all networks that any unit handed over:

    score(network)  = 1 - (rank - 1) / (networks - 1)              0 worst, 1 best of all that were handed over
    hypervolume     = area of (bound, score) that a unit's networks dominate, both axes from 0 to 1; the bound runs
                      over the space's range on the device, and the reference is the slowest bound at score 0
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from search.family.candidates import Member
from search.strategies import Outcome
from shared.spaces import Genotype

CLOSE = 1 + 1e-9
"""A bound that is a budget meets it, however it was rounded on the way."""


@dataclass(frozen=True)
class Unit:
    """One strategy with one seed, finished.

    Attributes:
        strategy: as `search.strategies.parse_strategy` writes it.
        seed: of the search.
        setting: hash of all that has to be equal for units to be compared.
        outcome: networks and counts.
        seconds: of the search, a one-shot supernet's training included where it was used.
    """

    strategy: str
    seed: int
    setting: str
    outcome: Outcome
    seconds: float


@dataclass(frozen=True)
class Judged:
    """A network of a unit, as the judge sees it. `score` as above; `accuracy` is inherited, in percent."""

    genotype: Genotype
    budget_ms: float | None
    derived: bool
    predicted_ms: float
    upper_ms: float
    parameters: int
    nll: float
    accuracy: float
    score: float


@dataclass(frozen=True)
class Result:
    """A unit's figures.

    Attributes:
        distinct: networks.
        budgets_met: share of the budgets for which there is a network whose bound keeps it. A network that was searched
            for one budget counts for that one alone.
        derived_met: likewise, counting only networks as the method derives them; None where it derives none.
        under_budget: mean over the budgets of the best score that keeps it, 0 where none does.
        images_per_s: training images by seconds.
    """

    strategy: str
    seed: int
    hypervolume: float
    distinct: int
    budgets_met: float
    derived_met: float | None
    under_budget: float
    seconds: float
    images_per_s: float
    evaluations: int
    networks: tuple[Judged, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds; no deviation of a single one."""

    mean: float
    deviation: float | None


def summarise(values: Iterable[float]) -> Spread:
    """Over seeds."""
    listed = list(values)
    return Spread(fmean(listed), stdev(listed) if len(listed) > 1 else None)


def proposed(units: Sequence[Unit]) -> list[Genotype]:
    """Every distinct network that any unit handed over, sorted, so that the order of the units changes nothing."""
    return sorted({proposal.genotype for unit in units for proposal in unit.outcome.proposals})


def judge(
    units: Sequence[Unit], ranked: Mapping[Genotype, Member], budgets_ms: Sequence[float], range_ms: tuple[float, float]
) -> list[Result]:
    """Figures in the order of the units.

    Args:
        units: finished.
        ranked: every proposed network, ranked among all of them by the judge.
        budgets_ms: of the comparison.
        range_ms: smallest and largest bound of the space on the device.
    """
    return [_result(unit, _judged(unit, ranked), budgets_ms, range_ms) for unit in units]


def hypervolume(points: Iterable[tuple[float, float]]) -> float:
    """Area within the unit square that points (x, y) dominate: smaller x and larger y are better; reference (1, 0)."""
    area, height = 0.0, 0.0
    front = sorted((min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)) for x, y in points)
    for place, (x, y) in enumerate(front):
        height = max(height, y)
        following = front[place + 1][0] if place + 1 < len(front) else 1.0
        area += (following - x) * height
    return area


def _judged(unit: Unit, ranked: Mapping[Genotype, Member]) -> tuple[Judged, ...]:
    found = []
    for proposal in unit.outcome.proposals:
        member = ranked[proposal.genotype]
        found.append(
            Judged(
                genotype=member.genotype,
                budget_ms=proposal.budget_ms,
                derived=proposal.derived,
                predicted_ms=member.predicted_ms,
                upper_ms=member.upper_ms,
                parameters=member.parameters,
                nll=member.nll,
                accuracy=member.accuracy,
                score=1 - (member.rank - 1) / max(len(ranked) - 1, 1),
            )
        )
    return tuple(found)


def _result(
    unit: Unit, networks: tuple[Judged, ...], budgets_ms: Sequence[float], range_ms: tuple[float, float]
) -> Result:
    low_ms, high_ms = range_ms
    best = [_best_under(networks, budget_ms) for budget_ms in budgets_ms]
    derived = [one for one in networks if one.derived]
    derived_best = [_best_under(derived, budget_ms) for budget_ms in budgets_ms]
    return Result(
        strategy=unit.strategy,
        seed=unit.seed,
        hypervolume=hypervolume(((one.upper_ms - low_ms) / (high_ms - low_ms), one.score) for one in networks),
        distinct=len({one.genotype for one in networks}),
        budgets_met=fmean(score is not None for score in best),
        derived_met=fmean(score is not None for score in derived_best) if derived else None,
        under_budget=fmean(score or 0.0 for score in best),
        seconds=unit.seconds,
        images_per_s=unit.outcome.training_images / unit.seconds if unit.seconds > 0 else math.nan,
        evaluations=unit.outcome.evaluations,
        networks=networks,
        notes=unit.outcome.notes,
    )


def _best_under(networks: Sequence[Judged], budget_ms: float) -> float | None:
    """The best score among the networks that keep a budget; one that was searched for another budget does not count."""
    scores = [
        one.score
        for one in networks
        if one.upper_ms <= budget_ms * CLOSE and (one.budget_ms is None or math.isclose(one.budget_ms, budget_ms))
    ]
    return max(scores, default=None)
