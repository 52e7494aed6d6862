"""The eight strategies on Fashion-MNIST in `darts`, judged by networks trained anew.

Nobody trained every network of this space. So what the strategies hand over is trained from random
weights by one recipe, that of `search ladder`, and judged on all test images; a network that
several hand over is trained once. The space has three cells and 8 channels, the device is this
machine. Searches have half as many updates as those of `benchmarks.strategies.strategies`, whose
rules these are, but for one: `dartscc`, `random` and `nsga2` hand over the best of all networks
that they scored, as `search pick` does, not of a family of 24. Budgets are the quartiles of the
predicted latencies of random networks. They lie close together in the middle of the space, where a
family, which covers all of it, has few members.

The figures are those of `strategies` (`strategies.darts.*`). Here `possible` is the best of all
trained networks within a budget, and hypervolumes are over that of all trained networks.

Seeds and strategies run in parallel, each in a process on a core. Runs are kept in runs/strategies
and resumed. Every network is in benchmarks/results/strategies_darts_networks.json.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import Progress
from benchmarks.judging.from_random_weights import train
from benchmarks.judging.this_machine import get_table, measure_ms
from benchmarks.report import Figure
from benchmarks.search.nas_bench_201_truth import Truth
from benchmarks.strategies.ground import HERE, RUNS, Ground, Known, Landscape, quartiles
from benchmarks.strategies.searches import Plan, Searched, begin, in_parallel, search, settled, with_fewer_updates
from benchmarks.strategies.strategies import RESULTS, figures, handed_over, judge, keep
from search.data import load_images
from search.decoding.decoding import make_decoder
from search.family.family import FamilySettings
from search.latency.latency_model import LatencyModel
from search.ranking.scoring import ScoringSettings
from search.supernet import Network
from shared.spaces import make_space
from shared.tables.table import CONFIDENCE, LatencyTable

SEEDS, EPOCHS, DRAWN = 2, 1.0, 1000
JUDGED_BY = "fashion_mnist"
UNTHINNED = {name: f"{name}:members={FamilySettings.candidates}" for name in ("dartscc", "random", "nsga2")}
TOGETHER = (("fbnet",), ("darts",), ("dca-nas",), ("random", "nsga2"), ("proxylessnas",), ("gdas",), ("dartscc",))
"""Strategies of a process, the slowest first. Two score on the same supernet."""


def _no_folder() -> Path | None:
    return None


KNOWN = Known(
    name="darts",
    space=make_space("darts", resolution=32, channels=8, depth=3, image_channels=1),
    dataset="fashion-mnist",
    make_data_dir=_no_folder,
    look=ScoringSettings(),
)


def run(progress: Progress, seeds: int = SEEDS) -> dict[str, Figure]:
    """Figures `strategies.darts.*`; takes an hour and a half."""
    plan = Plan(devices=(HERE,), seeds=seeds, profile=())
    plan = with_fewer_updates(replace(plan, strategies={**plan.strategies, **UNTHINNED}), by=2)
    return compare(KNOWN, plan, progress, RESULTS / "strategies_darts_networks.json", RUNS / "darts_trained.json")


def compare(
    known: Known, plan: Plan, progress: Progress, networks: Path, trained: Path, epochs: float = EPOCHS
) -> dict[str, Figure]:
    """Compare strategies.

    Args:
        networks: file for every handed-over network.
        trained: keeps the accuracies.
        epochs: of each training.
    """
    plan, space = settled(plan, known.name), known.space
    progress("profiling this machine")
    table = get_table(space, plan.runs / HERE, plan.profile)
    budgets_ms = draw_budgets_ms(table)
    searched = search_all(known, plan, table, budgets_ms, progress)
    names = handed_over(searched)
    progress(f"measuring {len(names)} networks on this machine")
    latency_ms = measure_ms(table, names, plan.runs / HERE, plan.preset)
    builders = {name: partial(Network, space, space.parse(name)) for name in names}
    images = load_images(known.dataset, space.resolution, space.image_channels, known.make_data_dir())
    accuracies = train(images, builders, epochs, 1, trained, progress)
    accuracy = np.array([accuracies[name][0] for name in names])
    ground = Ground(
        **vars(known),
        whole_space=space,
        truth=Truth({name: place for place, name in enumerate(names)}, {JUDGED_BY: 100 - accuracy}, {}),
        make_tables=lambda seed: (),
        published={},
    )
    landscapes = {HERE: Landscape(np.array([latency_ms[name] for name in names]), accuracy, budgets_ms)}
    handed = judge(ground, searched, landscapes, {HERE: latency_ms})
    keep(networks, plan, landscapes, handed)
    return figures(ground, searched, handed, landscapes)


def draw_budgets_ms(table: LatencyTable) -> tuple[float, ...]:
    """Quartiles of the predicted latencies of uniformly drawn networks."""
    model = LatencyModel(table)
    decoder = make_decoder(model, CONFIDENCE)
    return quartiles(model.mean_and_sd_ms(decoder.draw(decoder.largest_ms, DRAWN, random.Random(0)))[0])


def search_all(
    known: Known, plan: Plan, table: LatencyTable, budgets_ms: Sequence[float], progress: Progress
) -> list[Searched]:
    """Every strategy with every seed, in the plan's order."""
    for seed in range(plan.seeds):
        begin(known, plan, HERE, table, budgets_ms, seed)  # before the processes, which would begin it together
    progress(f"{plan.seeds} seeds of {len(plan.strategies)} strategies")
    jobs = [(seed, labels) for seed in range(plan.seeds) for labels in TOGETHER]
    found = in_parallel(partial(search_each, known, plan, table, budgets_ms), jobs)
    by_label = {(seed, label): each[label] for (seed, _), each in zip(jobs, found, strict=True) for label in each}
    return [by_label[seed, label] for seed in range(plan.seeds) for label in plan.strategies]


def search_each(
    known: Known, plan: Plan, table: LatencyTable, budgets_ms: Sequence[float], job: tuple[int, Sequence[str]]
) -> Mapping[str, Searched]:
    """The searches of a seed with some strategies, by label. A failure is a line, and the others go on."""
    seed, labels = job
    comparison = begin(known, plan, HERE, table, budgets_ms, seed)
    return {label: search(comparison, HERE, label, plan.strategies[label], seed) for label in labels}
