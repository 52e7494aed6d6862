"""Families judged by the truth: NAS-Bench-201, 14 device settings, five seeds (`search.nb201.*`).

Searches know the latencies of 60 architectures per device and the images of CIFAR-10
(`benchmarks.search.nas_bench_201_search`). The accuracies after 200 epochs are in
`benchmarks.search.nas_bench_201_truth`, which no search can import. Seeds run in parallel, each in
a process on a core. Runs are kept in runs/nas-bench-201 and resumed. The figures of each device and
seed are in benchmarks/results/nas_bench_201_devices.json, those of each seed in
nas_bench_201_seeds.json. `benchmarks.judging.shares` explains shares, curves and taus.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import Progress
from benchmarks.judging import shares
from benchmarks.judging.families import STRATEGIES, Found, SeedResult
from benchmarks.judging.shares import beyond_spread, over_seeds
from benchmarks.report import Figure
from benchmarks.search.nas_bench_201_search import DATA, SPACE, ask_about_unseen, find_families, latency_file
from benchmarks.search.nas_bench_201_truth import (
    Truth,
    budgets_ms,
    has_whole_milliseconds,
    judge,
    load_truth,
    relative_hypervolume,
)
from search.family.family import Member
from search.process.progress import Progress as SearchProgress
from shared.spaces import Genotype

SEEDS = 5
BARS = {"share": ">= .88", "tau.ranking": ">= .80", "tau_half.ranking": ">= .58"}
RESULTS = Path(__file__).parents[1] / "results"
STRICT_ERROR = 20.0
"""Percent. An axis of error up to 90 % flatters every family: hardly a connected cell is near it.
"""
RUNGS, BUDGETS = 6, 19
Values = Sequence[float]


@dataclass(frozen=True)
class Judged:
    """A strategy's family on a device, by the truth; gaps in percentage points.

    Attributes:
        refused: number of the ladder's budgets below the smallest bound, which have no promise.
        budgets_met: share of the other budgets that the picked network's true latency keeps.
    """

    evaluations: int
    members: int
    connected: int
    hypervolume: float
    strict_hypervolume: float
    cifar100: float
    imagenet16_120: float
    ladder_gaps: tuple[float, ...]
    refused: int
    budgets_met: float


def run(progress: Progress, seeds: int = SEEDS) -> dict[str, Figure]:
    """Figures `search.nb201.*` and `search.unseen.gap`."""
    latency_file()
    truth = load_truth(DATA / "nas_bench_201")  # first: searches take hours
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        waiting = pool.map(_result, range(seeds))  # these go first
        unseen = pool.submit(_unseen, 0)
        results = list(waiting)
    judged = [judge_seed(truth, result) for result in results]
    parts = {str(result.seed): _parts(of_seed) for result, of_seed in zip(results, judged, strict=True)}
    (RESULTS / "nas_bench_201_devices.json").write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
    by_seed = {result.seed: judge_shares(truth, result) for result in results}
    shares.record(RESULTS / "nas_bench_201_seeds.json", by_seed)
    measured = [name for name in truth.devices if not has_whole_milliseconds(truth, name)]
    found = {
        **shares.figures("search.nb201", list(by_seed.values()), BARS),
        **figures(judged, measured, [sum(result.minutes.values()) for result in results]),
    }
    asked = {device: judge_family(truth, device, found) for device, found in unseen.result().items()}
    return {**found, "search.unseen.gap": unseen_gap(asked, judged[0]["dartscc"])}


def judge_seed(truth: Truth, result: SeedResult) -> dict[str, dict[str, Judged]]:
    """{strategy: {device: judged}} of a seed."""
    return {
        strategy: {
            device: judge_family(truth, device, found.families[strategy]) for device, found in result.devices.items()
        }
        for strategy in STRATEGIES
    }


def judge_shares(truth: Truth, result: SeedResult) -> dict[str, float]:
    """Shares and curves of a seed, means over devices, and the agreement of its ranking."""
    by_device = []
    for device, found in result.devices.items():

        def volume(networks: Sequence[Genotype], device: str = device) -> float:
            return relative_hypervolume(truth, device, "cifar10", list(map(SPACE.format, networks)))

        scale = shares.make_scale(found.everything, _errors(truth, found.everything), volume, result.seed)
        by_device.append(shares.judge(found, scale, volume))
    everything = next(iter(result.devices.values())).everything  # their ranks are the same on every device
    return {**shares.over_devices(by_device), **shares.agree(SPACE, everything, 100 - _errors(truth, everything))}


def _errors(truth: Truth, networks: Sequence[Member]) -> npt.NDArray[np.float64]:
    return truth.error["cifar10"][truth.places([SPACE.format(member.genotype) for member in networks])]


def judge_family(truth: Truth, device: str, found: Found) -> Judged:
    """Judge a strategy's family on a device."""
    names = [SPACE.format(member.genotype) for member in found.members]
    rungs = [judge(truth, device, ms, name) for ms in budgets_ms(truth, device, RUNGS) for name in picked(found, ms)]
    met = [
        judge(truth, device, ms, name).met for ms in budgets_ms(truth, device, BUDGETS) for name in picked(found, ms)
    ]
    return Judged(
        evaluations=found.evaluations,
        members=len(set(names)),
        connected=int(truth.learns("cifar10")[truth.places(names)].sum()),
        hypervolume=relative_hypervolume(truth, device, "cifar10", names),
        strict_hypervolume=relative_hypervolume(truth, device, "cifar10", names, STRICT_ERROR),
        cifar100=relative_hypervolume(truth, device, "cifar100", names),
        imagenet16_120=relative_hypervolume(truth, device, "imagenet16_120", names),
        ladder_gaps=tuple(rung.gap for rung in rungs),
        refused=RUNGS - len(rungs),
        budgets_met=fmean(met),
    )


def picked(found: Found, budget_ms: float) -> list[str]:
    """The network that `search pick` names for a budget: the best-ranked within it; or none."""
    within = [choice for choice in found.front if choice.upper_ms <= budget_ms]
    return [SPACE.format(min(within, key=lambda choice: choice.rank).genotype)] if within else []


def figures(
    judged: Sequence[Mapping[str, Mapping[str, Judged]]], measured: Sequence[str], minutes: Values
) -> dict[str, Figure]:
    """All figures.

    Args:
        judged: of each seed.
        measured: devices whose latencies are not whole milliseconds.
        minutes: of each seed.
    """

    def devices(strategy: str, value: Callable[[Judged], float]) -> list[list[float]]:
        return [[value(family) for family in seed[strategy].values()] for seed in judged]

    def means(strategy: str, value: Callable[[Judged], float]) -> list[float]:
        return list(map(fmean, devices(strategy, value)))

    def hypervolumes(strategy: str) -> list[float]:
        return means(strategy, lambda family: family.hypervolume)

    def margin(baseline: str) -> list[float]:
        return [a - b for a, b in zip(hypervolumes("dartscc"), hypervolumes(baseline), strict=True)]

    def strict(strategy: str) -> list[float]:
        return means(strategy, lambda family: family.strict_hypervolume)

    found = {
        "hv_mean": over_seeds(hypervolumes("whole"), ">= .988"),
        "hv_worst_seed": Figure(value=min(hypervolumes("whole")), n=len(judged), bar=">= .980"),
        "hv_worst": over_seeds(
            [min(device) for device in devices("whole", lambda family: family.hypervolume)], ">= .980"
        ),
        "hv80_mean": over_seeds(strict("whole"), ">= .957"),
        "dartscc.hv_mean": over_seeds(hypervolumes("dartscc"), ">= .984"),
        "dartscc.hv_worst": over_seeds(
            [min(device) for device in devices("dartscc", lambda family: family.hypervolume)]
        ),
        "dartscc.hv80_mean": over_seeds(strict("dartscc")),
        "dartscc.distinct": _fewest(devices("dartscc", lambda family: family.members), ">= 12"),
        "dartscc.connected": _fewest(devices("dartscc", lambda family: family.connected / family.members), ">= 1"),
        "dartscc.evaluations": _most(devices("dartscc", lambda family: family.evaluations), "<= 2000"),
        "margin_random": beyond_spread(margin("random")),
        "margin_nsga2": beyond_spread(margin("nsga2")),
        "ladder_gap": over_seeds(means("whole", lambda family: fmean(family.ladder_gaps)), "<= 1", "points"),
        "ladder_worst": _most(devices("whole", lambda family: max(family.ladder_gaps)), "<= 4", "points"),
        "ladder_refused": _most(devices("whole", lambda family: family.refused)),
        "transfer.cifar100": over_seeds(means("whole", lambda family: family.cifar100), ">= .97"),
        "transfer.imagenet16_120": over_seeds(means("whole", lambda family: family.imagenet16_120), ">= .97"),
        "minutes": over_seeds(minutes, "<= 30", "min"),
        "budgets_met": _least_met(judged, measured),
    }
    for baseline in ("random", "nsga2", "parameters", "random_score"):
        found[f"{baseline}.hv80_mean"] = over_seeds(strict(baseline))
    return {f"search.nb201.{name}": figure for name, figure in found.items()}


def unseen_gap(asked: Mapping[str, Judged], in_run: Mapping[str, Judged]) -> Figure:
    """Hypervolume that devices lose outside of the run, by the same strategy and seed."""
    gaps = [in_run[device].hypervolume - family.hypervolume for device, family in asked.items()]
    return Figure(value=fmean(gaps), n=len(gaps), spread=f"{min(gaps):.4f} to {max(gaps):.4f}", bar="<= .01")


def _unseen(seed: int) -> dict[str, Found]:
    return ask_about_unseen(seed, SearchProgress(lambda line: print(f"unseen, seed {seed}: {line}", flush=True)))


def _result(seed: int) -> SeedResult:
    return find_families(seed, SearchProgress(lambda line: print(f"seed {seed}: {line}", flush=True)))


def _parts(judged: Mapping[str, Mapping[str, Judged]]) -> dict[str, dict[str, object]]:
    return {strategy: {device: asdict(family) for device, family in each.items()} for strategy, each in judged.items()}


def _fewest(values: Sequence[Values], bar: str) -> Figure:
    return Figure(value=min(map(min, values)), n=sum(map(len, values)), bar=bar)


def _most(values: Sequence[Values], bar: str | None = None, unit: str | None = None) -> Figure:
    return Figure(value=max(map(max, values)), unit=unit, n=sum(map(len, values)), bar=bar)


def _least_met(judged: Sequence[Mapping[str, Mapping[str, Judged]]], measured: Sequence[str]) -> Figure:
    """The share of the device that keeps fewest budgets, over all seeds."""
    kept = {name: fmean(seed["whole"][name].budgets_met for seed in judged) for name in measured}
    worst = min(kept, key=lambda name: kept[name])
    return Figure(value=100 * kept[worst], unit="%", n=BUDGETS * len(judged), spread=f"worst: {worst}", bar=">= 95")
