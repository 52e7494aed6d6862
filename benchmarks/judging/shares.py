"""Figures of families and rankings that cannot be flattered, by the truth about every network.

share = (hv - hv of random scores) / (hv of true accuracies - hv of random scores)

hv is the relative hypervolume of a family of 24. The three families differ in their scores alone:
tables and rule are the same. A front that is too long is thinned by the area between latencies and
scores, for true accuracies the hypervolume itself. So 0 is luck, and 1 is all that these tables
allow. The plain hv is near 1 for any family. Luck is the mean of 20 draws.

tau is Kendall's tau with the true accuracy: over all networks, and over the better half of them.
Beside the ranking stand its parts, parameters, multiply-adds, depth (the longest path),
and ceilings: an additive fit to the ranks of all true accuracies (ridge regression on the
choices), and one training against another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from benchmarks.judging.families import CURVES, DeviceResult, Found
from benchmarks.report import Figure
from search.family.family import FamilySettings, Member
from search.family.pareto import select_members
from search.ranking.additive_fit import fit_additive
from search.ranking.scoring import longest_path
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space

Floats = npt.NDArray[np.float64]
Volume = Callable[[Sequence[Genotype]], float]
"""Relative hypervolume of some networks."""

DRAWS = 20
COMPARED = ((100, 100), (300, 300), (100, 300))
"""Numbers of networks that `dartscc` and `random` may score, where their shares are compared."""


class Plane:
    """Latency and error of all networks, each scaled to [0, 1]; the reference point is (1, 1).

    Args:
        latency_ms: (networks,).
        error: (networks,), percent.
        among: the networks that the axes run over; None: all.
        worst_error: end of the error axis; None: the largest error.

    Raises:
        InvalidValue: an axis has no length, as in a space with a single network.
    """

    def __init__(
        self,
        latency_ms: Floats,
        error: Floats,
        among: npt.NDArray[np.bool_] | None = None,
        worst_error: float | None = None,
    ) -> None:
        among = np.ones(len(error), dtype=np.bool_) if among is None else among
        self._points = np.column_stack(
            [_to_unit("latency", latency_ms, among), _to_unit("error", error, among, worst_error)]
        )
        self._best = hypervolume(self._points[among])

    def relative_hypervolume(self, places: npt.NDArray[np.intp]) -> float:
        """Hypervolume of the networks at some places over that of all, 0 to 1."""
        return hypervolume(self._points[places]) / self._best


def hypervolume(points: Floats) -> float:
    """Area that points (n, 2), to be minimised, dominate below the reference (1, 1)."""
    inside = points[(points < 1).all(axis=1)]
    area, lowest = 0.0, 1.0
    for x, y in inside[np.lexsort((inside[:, 1], inside[:, 0]))]:
        if y < lowest:
            area += (1 - x) * (lowest - y)
            lowest = y
    return float(area)


def make_volume(everything: Sequence[Member], accuracies: Floats) -> Volume:
    """The judge of families from a space.

    Args:
        everything: all networks, with their latencies.
        accuracies: true, (networks,), percent.
    """
    plane = Plane(np.array([member.predicted_ms for member in everything]), 100 - accuracies)
    place = {member.genotype: index for index, member in enumerate(everything)}

    def volume(networks: Sequence[Genotype]) -> float:
        return plane.relative_hypervolume(np.array([place[network] for network in networks], dtype=np.intp))

    return volume


@dataclass(frozen=True)
class Scale:
    """Relative hypervolume of families by luck and by the truth."""

    luck: float
    best: float

    def share(self, hypervolume: float) -> float:
        """0 for luck, 1 for the truth; a family may lie outside."""
        return (hypervolume - self.luck) / (self.best - self.luck)


def make_scale(everything: Sequence[Member], error: Sequence[float] | Floats, volume: Volume, seed: int) -> Scale:
    """The scale of a device.

    Args:
        everything: all networks with their latencies.
        error: true error of each.
        volume: by the truth.
        seed: of the random scores.

    Raises:
        InvalidValue: the truth is no better than luck, as in a space of very few networks.
    """
    draws = np.random.default_rng(seed)
    luck = fmean(_family_volume(everything, draws.random(len(everything)), volume) for _ in range(DRAWS))
    best = _family_volume(everything, error, volume)
    if best <= luck:
        raise InvalidValue("truth", f"a family by true accuracies ({best:.4f}) is no better than luck ({luck:.4f})")
    return Scale(luck, best)


def judge(result: DeviceResult, scale: Scale, volume: Volume) -> dict[str, float]:
    """Figures of a device.

    `share` and `hv_mean` are those of the whole space, scored; STRATEGY.share and STRATEGY.hv_mean
    those of the others; curve.STRATEGY.COUNT is a share.
    """

    def volume_of(found: Found) -> float:
        return volume([member.genotype for member in found.members])

    volumes = {strategy: volume_of(result.families[strategy]) for strategy in ("whole", *CURVES, "parameters")}
    prefixed = {"" if strategy == "whole" else f"{strategy}.": value for strategy, value in volumes.items()}
    return {
        **{f"{prefix}share": scale.share(value) for prefix, value in prefixed.items()},
        **{
            f"curve.{strategy}.{count}": scale.share(volume_of(found))
            for strategy, curve in result.curves.items()
            for count, found in curve.items()
        },
        **{f"{prefix}hv_mean": value for prefix, value in prefixed.items()},
        "random_score.hv_mean": scale.luck,
        "true_accuracy.hv_mean": scale.best,
    }


def agree(
    space: Space, everything: Sequence[Member], accuracies: Floats, trainings: Floats | None = None
) -> dict[str, float]:
    """Figures `tau.NAME` and `tau_half.NAME` of a ranking and of what it is compared with.

    Args:
        everything: networks of the space, ranked.
        accuracies: true, (networks,).
        trainings: accuracies of each training, (trainings, networks), where there are several.

    Raises:
        InvalidValue: a network has no rank, or there is only one network.
    """
    if len(everything) < 2:
        raise InvalidValue("truth", f"{len(everything)} network of {space.name} has no order to agree with")
    for member in everything:
        if not np.isfinite(member.rank):
            raise InvalidValue("ranking", f"has no score for {space.format(member.genotype)}: score it anew")
    scores = {
        "ranking": [-member.rank for member in everything],
        # What is not finite, as of a network that diverged, comes last, as in the ranking.
        "likelihood": [-member.nll if np.isfinite(member.nll) else -np.inf for member in everything],
        "expressivity": [m.expressivity if np.isfinite(m.expressivity) else -np.inf for m in everything],
        "parameters": [member.parameters for member in everything],
        "multiply_adds": [member.multiply_adds for member in everything],
        "depth": [longest_path(space, member.genotype) for member in everything],
        "additive_fit": fit_additive(space, [member.genotype for member in everything], rankdata(accuracies)).fitted,
    }
    better = accuracies >= np.median(accuracies)
    taus = {}
    for label, chosen in (("tau", np.ones(len(everything), dtype=np.bool_)), ("tau_half", better)):
        for name, values in scores.items():
            taus[f"{label}.{name}"] = _kendall(np.asarray(values, dtype=np.float64)[chosen], accuracies[chosen])
        if trainings is not None:
            pairs = combinations(trainings[:, chosen], 2)
            taus[f"{label}.another_training"] = fmean(_kendall(first, second) for first, second in pairs)
    return taus


def figures(prefix: str, seeds: Sequence[Mapping[str, float]], bars: Mapping[str, str]) -> dict[str, Figure]:
    """Means over seeds of figures that every seed has, and how far `dartscc` is ahead of `random`.

    `ahead.N` is the difference of the shares where both may score N networks; its bar is the spread
    over seeds, as a smaller difference is luck. `ahead.100_of_300` gives `random` three times as many.
    """
    found = {name: over_seeds([seed[name] for seed in seeds], bars.get(name)) for name in seeds[0]}
    for few, many in COMPARED:
        pair = f"curve.dartscc.{few}", f"curve.random.{many}"
        if found.keys() >= set(pair):
            ahead = [seed[pair[0]] - seed[pair[1]] for seed in seeds]
            name = f"ahead.{few}" if few == many else f"ahead.{few}_of_{many}"
            found[name] = beyond_spread(ahead) if few == many else over_seeds(ahead, ">= 0")
    return {f"{prefix}.{name}": figure for name, figure in found.items()}


def over_devices(judged: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over devices."""
    return {name: fmean(device[name] for device in judged) for name in judged[0]}


def over_seeds(values: Sequence[float], bar: str | None = None, unit: str | None = None) -> Figure:
    deviation = spread(values) if len(values) > 1 else None
    return Figure(value=fmean(values), unit=unit, n=len(values), spread=deviation, bar=bar)


def beyond_spread(values: Sequence[float]) -> Figure:
    """A mean whose bar is the spread over seeds: a smaller one is luck."""
    return over_seeds(values, f">= {spread(values):.5f}")


def spread(values: Sequence[float]) -> float:
    """Standard deviation; 0 of a single value."""
    return stdev(values) if len(values) > 1 else 0.0


def record(path: Path, seeds: Mapping[int, Mapping[str, float]]) -> None:
    """Keep the figures of each seed, from which the curves are drawn."""
    path.write_text(json.dumps({str(seed): found for seed, found in seeds.items()}, indent=1) + "\n", encoding="utf-8")


def _family_volume(everything: Sequence[Member], values: Sequence[float] | Floats, volume: Volume) -> float:
    pairs = zip(everything, map(float, values), strict=True)
    scored = [replace(member, rank=value) for member, value in pairs]
    members = select_members(scored, FamilySettings.members, lambda front: [member.rank for member in front])
    return volume([member.genotype for member in members])


def _kendall(first: Floats, second: Floats) -> float:
    """Kendall's tau; 0 if one of the two has a single value, which orders nothing."""
    tau = float(kendalltau(first, second).statistic)
    return 0.0 if np.isnan(tau) else tau


def _to_unit(name: str, values: Floats, among: npt.NDArray[np.bool_], highest: float | None = None) -> Floats:
    if not among.any() or (values[among] == values[among][0]).all():
        count = int(among.sum())
        raise InvalidValue("truth", f"{count} network{'s' * (count != 1)} of the same {name} have no front to judge by")
    low, high = values[among].min(), values[among].max() if highest is None else highest
    return np.asarray((values - low) / (high - low))
