"""The eight strategies against the truths of NAS-Bench-201 and NAS-Bench-Macro.

`strategies.nb201.*` are of four devices, `strategies.nbmacro.*` of this machine alone. A search
knows the images of CIFAR-10 (JPEG copy, 16 x 16) and a device's table. Tables of published devices
are fitted to 60 of their latencies; this machine (`here`) is profiled. Budgets are the quartiles of
the latencies. A strategy hands over a network for each budget:

* `dartscc`, `random` and `nsga2` their best-ranked network whose bound keeps the budget;
* `fbnet`, `proxylessnas` and `dca-nas` the network that they derive, and beside it (`.decoded`) the
  most probable network of the same alphas whose bound keeps the budget;
* `darts` and `gdas`, which know no budget, the same network for all.

True are the accuracies after 200 epochs, and the published latencies of the same networks; on this
machine handed-over networks are measured. `possible` is the best network within a budget; on this
machine by the latencies that its table predicts.

DEVICE.STRATEGY.budget_N:   mean true accuracy, CIFAR-10
STRATEGY.hypervolume:       of the networks for all budgets, by true latency and CIFAR-10 accuracy,
                            over that of all networks; mean over the devices
STRATEGY.hypervolume_80:    the same with an axis that begins at 80 % accuracy
STRATEGY.shortfall:         points of accuracy below `possible`, mean over budgets and devices; a
                            network that breaks its budget counts as chance
STRATEGY.DATASET:           true accuracy for the largest budget, mean over the devices
STRATEGY.budgets_kept:      share of budgets that the true latency keeps
STRATEGY.seconds, .images:  of all searches for a device, on a core; images of the weights' updates

Devices and seeds run in parallel, each in a process on a core. Runs are kept in runs/strategies and
resumed. Every network that was handed over is in benchmarks/results/, in strategies_networks.json
and strategies_macro_networks.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from benchmarks import Progress
from benchmarks.judging.shares import over_seeds
from benchmarks.judging.this_machine import measure_ms
from benchmarks.report import Figure
from benchmarks.strategies.ground import GROUNDS, HERE, Ground, Landscape
from benchmarks.strategies.searches import (
    SEEDS,
    Plan,
    Searched,
    get_landscapes,
    search_all,
    settled,
    whole_table,
    with_fewer_updates,
)

RESULTS = Path(__file__).parents[1] / "results"
CHANCE = {"cifar10": 10.0, "fashion_mnist": 10.0, "cifar100": 1.0, "imagenet16_120": 100 / 120}
STRICT_ACCURACY = 80.0


@dataclass(frozen=True)
class Handed:
    """A network for a budget, by the truth. Without a connected network it is chance, at 0 ms.

    Attributes:
        accuracy: by data set, percent. The searches saw the images of the first.
    """

    device: str
    strategy: str
    seed: int
    budget_ms: float
    genotype: str | None
    latency_ms: float
    accuracy: Mapping[str, float]

    @property
    def judged_by(self) -> str:
        """The data set of the searches."""
        return next(iter(self.accuracy))

    @property
    def kept(self) -> bool:
        return self.genotype is not None and self.latency_ms <= self.budget_ms


def run(progress: Progress, seeds: int = SEEDS) -> dict[str, Figure]:
    """Figures `strategies.nb201.*`; takes hours."""
    return compare("nb201", Plan(seeds=seeds), progress, RESULTS / "strategies_networks.json")


def run_macro(progress: Progress, seeds: int = SEEDS) -> dict[str, Figure]:
    """Figures `strategies.nbmacro.*`; takes hours."""
    # As in `nas_bench_macro`: a path takes five times as long.
    plan = with_fewer_updates(Plan(devices=(HERE,), seeds=seeds), by=4)
    return compare("nbmacro", plan, progress, RESULTS / "strategies_macro_networks.json")


def compare(name: str, plan: Plan, progress: Progress, networks: Path) -> dict[str, Figure]:
    """Compare strategies on a ground, and write every handed-over network into a file."""
    ground, plan = GROUNDS[name](), settled(plan, name)
    searched = search_all(name, plan, progress)
    landscapes = get_landscapes(ground, plan)
    latencies_ms = get_latencies_ms(ground, plan, searched, progress)
    handed = judge(ground, searched, landscapes, latencies_ms)
    keep(networks, plan, landscapes, handed)
    return figures(ground, searched, handed, landscapes)


def keep(path: Path, plan: Plan, landscapes: Mapping[str, Landscape], handed: Sequence[Handed]) -> None:
    """Write every handed-over network into a file, with the fronts of the truth."""
    content = {
        "updates": plan.settings["warmup_steps"] + plan.settings["search_steps"],
        "seeds": plan.seeds,
        "fronts": {device: landscape.front for device, landscape in landscapes.items()},
        "networks": list(map(asdict, handed)),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def get_latencies_ms(
    ground: Ground, plan: Plan, searched: Sequence[Searched], progress: Progress
) -> dict[str, Mapping[str, float]]:
    """True latencies of all handed-over networks by device; those on this machine are measured."""
    found: dict[str, Mapping[str, float]] = {}
    for device in plan.devices:
        names = handed_over(search for search in searched if search.device == device)
        if device == HERE:
            progress(f"measuring {len(names)} networks on this machine")
            found[device] = measure_ms(whole_table(ground, plan), names, plan.runs / HERE, plan.preset)
        else:
            found[device] = {name: float(ground.truth.latency_ms[device][ground.truth.place[name]]) for name in names}
    return found


def handed_over(searched: Iterable[Searched]) -> list[str]:
    """Every network that is handed over, once."""
    return sorted({name for each in searched for row in each.networks.values() for name in row if name is not None})


def judge(
    ground: Ground,
    searched: Sequence[Searched],
    landscapes: Mapping[str, Landscape],
    latencies_ms: Mapping[str, Mapping[str, float]],
) -> list[Handed]:
    """All that was handed over, by the truth.

    Args:
        latencies_ms: by device and network.
    """
    return [
        Handed(
            search.device,
            label,
            search.seed,
            budget_ms,
            network,
            0.0 if network is None else latencies_ms[search.device][network],
            {name: CHANCE[name] for name in ground.truth.error} if network is None else ground.accuracies(network),
        )
        for search in searched
        for label, row in search.networks.items()
        for budget_ms, network in zip(landscapes[search.device].budgets_ms, row, strict=True)
    ]


def figures(
    ground: Ground, searched: Sequence[Searched], handed: Sequence[Handed], landscapes: Mapping[str, Landscape]
) -> dict[str, Figure]:
    """All figures: by device, by strategy, and what papers publish."""
    found: dict[str, Figure] = {}
    labels = list(dict.fromkeys(network.strategy for network in handed))
    for device, landscape in landscapes.items():
        for number, budget_ms in enumerate(landscape.budgets_ms, start=1):
            _, best = landscape.best_within(budget_ms)
            found[f"{device}.possible.budget_{number}"] = Figure(value=best, unit="%", spread=f"{budget_ms:.4g} ms")
            for label in labels:
                own = [n for n in handed if (n.device, n.strategy, n.budget_ms) == (device, label, budget_ms)]
                if own and not label.endswith(".decoded"):  # those have their line per strategy
                    found[f"{device}.{label}.budget_{number}"] = of_budget(own)
    for label in labels:
        own = [network for network in handed if network.strategy == label]
        found |= {f"{label}.{name}": figure for name, figure in of_strategy(ground, label, own, landscapes).items()}
    for label in dict.fromkeys(search.strategy for search in searched):
        found |= {f"{label}.{name}": figure for name, figure in costs(searched, label).items()}
    for name, paper in ground.published.items():
        words = "; ".join(f"{key} {value:g}" for key, value in asdict(paper).items() if value and key != "cifar10")
        found[f"published.{name}"] = Figure(value=paper.cifar10, unit="%", spread=words)
    whole = [search for search in searched if not search.repeated]
    failures = [f"{search.strategy} on {search.device}, seed {search.seed}" for search in whole if search.failure]
    found["failures"] = Figure(value=len(failures), n=len(whole), spread="; ".join(failures) or None)
    return {f"strategies.{ground.name}.{name}": figure for name, figure in found.items()}


def of_budget(own: Sequence[Handed]) -> Figure:
    """Mean accuracy over seeds, with their latencies in words."""
    latencies_ms = [network.latency_ms for network in own if network.genotype is not None] or [0.0]
    words = f"{spread(accuracies(own))}{fmean(latencies_ms):.4g} of {own[0].budget_ms:.4g} ms"
    words += f", {sum(network.kept for network in own)} of {len(own)} kept"
    if lost := sum(network.genotype is None for network in own):
        words += f", {lost} not connected"
    return Figure(value=fmean(accuracies(own)), unit="%", n=len(own), spread=words)


def of_strategy(
    ground: Ground, label: str, own: Sequence[Handed], landscapes: Mapping[str, Landscape]
) -> dict[str, Figure]:
    """Hypervolume and accuracies, by seed over devices, and the share of budgets kept."""
    found = {
        name: over_seeds(by_seed(own, partial(relative_hypervolume, landscapes, worst)))
        for name, worst in (("hypervolume", None), ("hypervolume_80", STRICT_ACCURACY))
    }
    found["shortfall"] = over_seeds(by_seed(own, partial(shortfall, landscapes)), unit="points")
    found["budgets_kept"] = Figure(value=100 * fmean(network.kept for network in own), unit="%", n=len(own))
    largest = [network for network in own if network.budget_ms == landscapes[network.device].budgets_ms[-1]]
    for dataset in ground.truth.error:
        values = by_seed(largest, partial(accuracies, dataset=dataset))
        paper = getattr(ground.published.get(label), dataset, None)
        words = spread(values) + (f"published {paper:g}" if paper else "")
        found[dataset] = Figure(value=fmean(values), unit="%", n=len(values), spread=words.removesuffix("; ") or None)
    return found


def by_seed(own: Sequence[Handed], of_seed: Callable[[Sequence[Handed]], Sequence[float]]) -> list[float]:
    """Mean of a seed's numbers, for each seed."""
    seeds = sorted({network.seed for network in own})
    return [fmean(of_seed([network for network in own if network.seed == seed])) for seed in seeds]


def relative_hypervolume(
    landscapes: Mapping[str, Landscape], worst: float | None, own: Sequence[Handed]
) -> list[float]:
    """Of a strategy's networks, for each device."""
    return [
        landscape.relative_hypervolume(
            [(n.latency_ms, n.accuracy[n.judged_by]) for n in own if n.device == device and n.genotype is not None],
            worst,
        )
        for device, landscape in landscapes.items()
        if any(network.device == device for network in own)  # else its search failed
    ]


def shortfall(landscapes: Mapping[str, Landscape], own: Sequence[Handed]) -> list[float]:
    """Points of accuracy below the best network within each budget. What breaks a budget is chance."""
    return [
        landscapes[n.device].best_within(n.budget_ms)[1] - (n.accuracy if n.kept else CHANCE)[n.judged_by] for n in own
    ]


def costs(searched: Sequence[Searched], label: str) -> dict[str, Figure]:
    """Seconds and images of a strategy's searches for a device."""
    own = [search for search in searched if search.strategy == label and not (search.failure or search.repeated)]
    if not own:
        return {}
    whole = fmean(search.searches for search in own)
    return {
        "seconds": Figure(value=fmean(search.seconds for search in own), unit="s", n=len(own)),
        "images": Figure(value=fmean(search.images for search in own), n=len(own), spread=f"{whole:.3g} searches"),
    }


def accuracies(networks: Sequence[Handed], dataset: str | None = None) -> list[float]:
    """By default on the data set of the searches."""
    return [network.accuracy[dataset or network.judged_by] for network in networks]


def spread(values: Sequence[float]) -> str:
    """The standard deviation, before further words."""
    return f"{stdev(values):.2f}; " if len(values) > 1 else ""
