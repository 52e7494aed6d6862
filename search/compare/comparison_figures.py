"""Results of strategies, computed the same way for all.

A unit is a strategy with a seed. A one-shot supernet that no strategy trained scores its networks
on images of other splits. `judge` ranks them among the networks of all units:

    score(network)  = 1 - (rank - 1) / (networks - 1)     0 is the worst of all networks, 1 the best
    hypervolume     = area of (bound, score) that a unit's networks dominate, both axes from 0 to 1;
                      the bound runs over the space's range on the device, and the reference is the
                      slowest bound at score 0
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from search.family.family import Member
from search.strategies import Outcome
from search.strategies.budgets import keeps
from shared.spaces import Genotype


@dataclass(frozen=True)
class Unit:
    """A strategy with a seed, finished.

    Attributes:
        strategy: as `search.strategies.parse_strategy` writes it.
        setting: hash of all that compared units have in common.
        outcome: networks and counts.
        seconds: of the search, with the training of a one-shot supernet that it used.
    """

    strategy: str
    seed: int
    setting: str
    outcome: Outcome
    seconds: float


@dataclass(frozen=True)
class Judged:
    """A scored network of a unit. `score` as above; `accuracy` is inherited, in percent."""

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
        budgets_met: share of the budgets that a network's bound meets. A network that was searched
            for a budget counts for that budget alone.
        derived_met: likewise for the networks that the method derives; None where it ranks networks.
        under_budget: mean over the budgets of the best score that meets it, 0 where none does.
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
    """Mean and standard deviation over seeds; None with a single seed."""

    mean: float
    deviation: float | None


def summarise(values: Iterable[float]) -> Spread:
    listed = list(values)
    return Spread(fmean(listed), stdev(listed) if len(listed) > 1 else None)


def proposed(units: Sequence[Unit]) -> list[Genotype]:
    """Every distinct network of the units, sorted: the order of the units changes nothing."""
    return sorted({proposal.genotype for unit in units for proposal in unit.outcome.proposals})


def judge(
    units: Sequence[Unit], ranked: Mapping[Genotype, Member], budgets_ms: Sequence[float], range_ms: tuple[float, float]
) -> list[Result]:
    """Figures in the order of the units.

    Args:
        ranked: every proposed network, ranked among all of them by the judge.
        range_ms: smallest and largest bound of the space on the device.
    """
    return [_result(unit, _judged(unit, ranked), budgets_ms, range_ms) for unit in units]


def hypervolume(points: Iterable[tuple[float, float]]) -> float:
    """Area of the unit square that points (x, y) dominate, up to (1, 0).

    Smaller x and larger y are better.
    """
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
        score = 1 - (member.rank - 1) / max(len(ranked) - 1, 1)
        of_member = {name: value for name, value in vars(member).items() if name in Judged.__dataclass_fields__}
        found.append(Judged(**of_member, budget_ms=proposal.budget_ms, derived=proposal.derived, score=score))
    return tuple(found)


def _result(
    unit: Unit, networks: tuple[Judged, ...], budgets_ms: Sequence[float], range_ms: tuple[float, float]
) -> Result:
    low_ms, range_of_ms = range_ms[0], max(range_ms[1] - range_ms[0], sys.float_info.min)
    best = [_best_under(networks, budget_ms) for budget_ms in budgets_ms]
    ranks = any(proposal.rank is not None for proposal in unit.outcome.proposals)
    derived = [network for network in networks if network.derived]
    derived_best = [_best_under(derived, budget_ms) for budget_ms in budgets_ms]
    return Result(
        strategy=unit.strategy,
        seed=unit.seed,
        hypervolume=hypervolume(((network.upper_ms - low_ms) / range_of_ms, network.score) for network in networks),
        distinct=len({network.genotype for network in networks}),
        budgets_met=fmean(score is not None for score in best),
        derived_met=None if ranks else fmean(score is not None for score in derived_best),
        under_budget=fmean(score or 0.0 for score in best),
        seconds=unit.seconds,
        images_per_s=unit.outcome.training_images / unit.seconds if unit.seconds > 0 else math.nan,
        evaluations=unit.outcome.evaluations,
        networks=networks,
        notes=unit.outcome.notes,
    )


def _best_under(networks: Sequence[Judged], budget_ms: float) -> float | None:
    """The best score of the networks that meet a budget and were not searched for another."""
    scores = [
        network.score
        for network in networks
        if keeps(network.upper_ms, budget_ms)
        and (network.budget_ms is None or math.isclose(network.budget_ms, budget_ms))
    ]
    return max(scores, default=None)
