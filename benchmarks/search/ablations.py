"""The effect of each measure against collapse: the search with and without it.

NAS-Bench-201 (16 channels, 1 cell per stage) on CIFAR-10 (JPEG copy), with tables fitted to 60
measured latencies of three devices, in short searches. Alphas decide (the space is not scored
whole). Two seeds.

hv:         relative hypervolume of the families by true accuracies and latencies
            (`benchmarks.search.nas_bench_201_truth`)
tau:        Kendall's tau of the supernet's likelihood with the true accuracy, over 100 networks
named:      distinct networks among the most probable ones of alpha on a grid of 25 trade-offs
skip_slow, skip_fast: share of skips in alpha at the least and the most weight of latency

No accuracy of the benchmark enters a search. Runs are kept in runs/ablations and resumed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.stats import kendalltau

from benchmarks import Progress
from benchmarks.judging.code_identity import identify
from benchmarks.judging.families import BUILDING, train
from benchmarks.report import Figure
from benchmarks.search.cifar10_jpeg import write_cifar10
from benchmarks.search.nas_bench_201_search import DATA, SPACE, fit_tables, latency_file
from benchmarks.search.nas_bench_201_truth import Truth, load_truth, relative_hypervolume
from search.family.build import build_families
from search.family.family import Family, load_family
from search.process.progress import SilentProgress
from search.ranking.scoring import open_scorer
from search.runs.run_directory import RunDirectory, on_every_device
from search.training.precision import has_bf16

RUNS = Path(__file__).parents[2] / "runs" / "ablations"
DEVICES = ("1080ti_1", "pixel3", "raspi4")
SEEDS = 2
COMMON_NETWORKS = 100
WARMUP_STEPS, SEARCH_STEPS = 400, 600
SETTINGS: Mapping[str, Any] = {
    "search_resolution": 16,
    "warmup_steps": WARMUP_STEPS,
    "search_steps": SEARCH_STEPS,
    "alpha_every": 4,
    "whole_space": 0,
    "precision": "bf16" if has_bf16() else "fp32",
    "threads": 1,
    "checkpoint_every": 500,
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "no_warmup": {"warmup_steps": 0, "search_steps": WARMUP_STEPS + SEARCH_STEPS},
    "uniform_paths": {"path_sampler": "uniform"},
    "no_exploration": {"exploration": 0.0},
    "floor": {"exploration": 0.0, "exploration_floor": 0.2},
    "auxiliary_skip": {"auxiliary_skip": 1.0},
}
"""`floor` replaces the fairly sampled paths, so compare it with `no_exploration`."""


@dataclass(frozen=True)
class Outcome:
    """The result of a search; the docstring of the module explains the fields."""

    hv: float
    tau: float
    named: float
    skip_slow: float
    skip_fast: float


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.ablations.*`; takes half an hour on a core."""
    truth = load_truth(DATA / "nas_bench_201")
    figures: dict[str, Figure] = {}
    for variant in VARIANTS:
        outcomes = []
        for seed in range(SEEDS):
            progress(f"{variant}, seed {seed}")
            outcomes.append(judged(get_run(variant, seed), truth))
        figures |= figures_of(f"search.ablations.{variant}", outcomes)
    return figures


def get_run(variant: str, seed: int) -> RunDirectory:
    """The trained run of a variant.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    cifar = write_cifar10(DATA / "cifar10_jpeg", RUNS / "cifar10_jpeg")
    tables = [table for table in fit_tables(latency_file(), seed) if table.device in DEVICES]
    settings = {**SETTINGS, **VARIANTS[variant]}
    code = identify(BUILDING, latency_file().read_bytes(), repr(settings).encode())
    return train(tables, cifar, RUNS / code[:12] / f"seed{seed}", seed, SilentProgress(), settings)


def judged(run_directory: RunDirectory, truth: Truth) -> Outcome:
    """Judge families, alphas and supernet of a run."""
    if not all(view.family_path.exists() for view in on_every_device(run_directory)):
        build_families(run_directory, SilentProgress())
    families = [load_family(view) for view in on_every_device(run_directory)]
    volumes = [
        relative_hypervolume(
            truth, family.device, "cifar10", [SPACE.format(member.genotype) for member in family.members]
        )
        for family in families
    ]
    return Outcome(
        hv=fmean(volumes),
        tau=supernet_tau(run_directory, truth),
        named=fmean(len({trade_off.genotype for trade_off in family.trade_offs}) for family in families),
        skip_slow=fmean(skip_share(family, 0.0) for family in families),
        skip_fast=fmean(skip_share(family, 1.0) for family in families),
    )


def supernet_tau(run_directory: RunDirectory, truth: Truth) -> float:
    """Kendall's tau of likelihood and true accuracy; both rise with the quality of a network."""
    draws = random.Random(0)
    networks = [SPACE.sample(draws) for _ in range(COMMON_NETWORKS)]
    scores = open_scorer(run_directory).score(networks)
    errors = truth.error["cifar10"][truth.places([SPACE.format(network) for network in networks])]
    return float(kendalltau([score.nll for score in scores], errors).statistic)


def skip_share(family: Family, u_kappa: float) -> float:
    """Mean over the grid's trade-offs with this weight of latency."""
    return fmean(trade_off.skip_share for trade_off in family.trade_offs if trade_off.u_kappa == u_kappa)


def figures_of(prefix: str, outcomes: list[Outcome]) -> dict[str, Figure]:
    """Means over seeds with their standard deviations."""
    figures = {}
    for name in vars(outcomes[0]):
        values = [getattr(outcome, name) for outcome in outcomes]
        figures[f"{prefix}.{name}"] = Figure(value=fmean(values), n=len(values), spread=stdev(values))
    return figures
