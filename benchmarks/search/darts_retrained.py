"""Networks of `darts` trained from random weights: those of a search beside random ones.

The search is that of `fmnist`: three cells, 16 channels, this machine, Fashion-MNIST. Eight budgets
are a geometric series, up to where the best-ranked network of either kind lies. For each,

* `dartscc` hands over its best-ranked candidate;
* `random` likewise, from as many networks, drawn under the same budgets, by the same ranking;
* `drawn` is a single network, all within the budget being equally likely.

All are trained from random weights by the recipe of `search ladder` and judged on all test images.
A network that several budgets get is trained once.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from benchmarks import Progress
from benchmarks.judging.from_random_weights import train
from benchmarks.report import Figure
from benchmarks.search.fmnist import get_run
from search.decoding.decoding import make_decoder
from search.family.family import Family, Member, load_family
from search.latency.latency_model import LatencyModel
from search.runs.run_directory import DeviceRun, on_device
from search.supernet import Network
from shared.spaces import Genotype

KEPT = Path(__file__).parents[2] / "runs" / "fmnist" / "retrained.json"
BUDGETS, SEEDS, EPOCHS = 8, 3, 2.0
BAR = ">= .3"
KINDS = ("dartscc", "random", "drawn")


@dataclass(frozen=True)
class Handed:
    """The networks for a budget, by kind."""

    budget_ms: float
    networks: Mapping[str, Genotype]


def run(progress: Progress, seeds: int = SEEDS, epochs: float = EPOCHS) -> dict[str, Figure]:
    """Figures `search.darts.retrained.*`; takes an hour."""
    view = on_device(get_run(progress))
    handed = hand_over(view, load_family(view))
    space, images = view.space, view.load_images()
    names = {space.format(network): network for row in handed for network in row.networks.values()}
    builders = {name: partial(Network, space, network) for name, network in names.items()}
    accuracies = train(images, builders, epochs, seeds, KEPT, progress)
    return figures([{kind: accuracies[space.format(row.networks[kind])] for kind in KINDS} for row in handed])


def hand_over(view: DeviceRun, family: Family) -> list[Handed]:
    """The networks for each budget."""
    decoder, draws = make_decoder(LatencyModel(view.table), view.config.confidence), random.Random(view.config.seed)
    pools = family.candidates, family.random_candidates
    slowest_ms = min(min(pool, key=lambda member: member.rank).upper_ms for pool in pools)
    budgets_ms = np.geomspace(decoder.smallest_ms, slowest_ms, BUDGETS + 1)[1:].tolist()
    found = []
    for budget_ms in budgets_ms:
        networks = [*(_best_within(pool, budget_ms) for pool in pools), *decoder.draw(budget_ms, 1, draws)]
        found.append(Handed(budget_ms, dict(zip(KINDS, networks, strict=True))))
    return found


def _best_within(pool: Sequence[Member], budget_ms: float) -> Genotype:
    return min((m for m in pool if m.upper_ms <= budget_ms), key=lambda member: member.rank).genotype


def figures(rows: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Figure]:
    """Gains over both kinds of random networks, mean over the budgets.

    Args:
        rows: for each budget the accuracies by kind and seed, percent.
    """
    found = {}
    for other, bar in (("random", BAR), ("drawn", None)):
        gains = [fmean(row["dartscc"]) - fmean(row[other]) for row in rows]
        spread = f"{stdev(gains):.2f}; {min(gains):+.2f} to {max(gains):+.2f}"
        found[f"gain_over_{other}"] = Figure(value=fmean(gains), unit="points", n=len(gains), spread=spread, bar=bar)
    for kind in KINDS:
        means = [fmean(row[kind]) for row in rows]
        words = f"{min(means):.2f} to {max(means):.2f}"
        found[f"{kind}.accuracy"] = Figure(value=fmean(means), unit="%", n=len(means), spread=words)
    found["seeds"] = Figure(value=len(rows[0]["dartscc"]))
    return {f"search.darts.retrained.{name}": figure for name, figure in found.items()}
