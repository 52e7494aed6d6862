"""DCA-NAS without each of its components (`dca_ablation.*`); figure 4a of its paper adds them one by one.

`full` has all: sharing by source node, derived cells, bottleneck, constraint. Every other variant
lacks what its name says, `darts` all four. Searches, budgets, truth and seeds are those of
`benchmarks.strategies.searches`, on one device and with a single run per budget.

cifar10, …:    true accuracy of the networks for the largest budget, by data set; one that is not connected is chance
budgets_kept:  share of the budgets that the true latency keeps
search_s:      seconds of a whole search, on a core
darts_space_s: seconds of a gradient of 64 images in the paper's supernet of the DARTS space (8
               cells, 16 channels; 16 x 16 pixels), on a core
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from benchmarks import Progress
from benchmarks.judging.shares import over_seeds
from benchmarks.report import Figure
from benchmarks.strategies.ground import GROUNDS
from benchmarks.strategies.searches import SEEDS, Plan, get_landscapes, search_all, settled
from benchmarks.strategies.strategies import accuracies, get_latencies_ms, judge
from search.process.threads_and_memory import torch_threads
from search.strategies import parse_strategy
from search.strategies.dca_nas.dca_nas import DcaNas
from search.strategies.dca_nas.slim_supernet import SlimSupernet
from shared.spaces import Space, make_space

VARIANTS: Mapping[str, str] = {
    "full": "dca-nas:runs=1",
    "no_sharing": "dca-nas:runs=1,shares_sources=no",
    "no_derived_cells": "dca-nas:runs=1,derives_cells=no",
    "no_bottleneck": "dca-nas:runs=1,bottleneck=1",
    "no_constraint": "dca-nas:runs=1,constrains=no",
    "darts": "dca-nas:runs=1,constrains=no,shares_sources=no,derives_cells=no,bottleneck=1",
}
DEVICE = "raspi4"
SPACE = make_space("darts", resolution=32, channels=16, depth=8)
IMAGES, SIDE, REPEATS = 64, 16, 5


def run(progress: Progress, seeds: int = SEEDS) -> dict[str, Figure]:
    """Figures `dca_ablation.*`; takes hours."""
    return ablate("nb201", Plan(devices=(DEVICE,), seeds=seeds), progress)


def ablate(name: str, plan: Plan, progress: Progress, space: Space = SPACE) -> dict[str, Figure]:
    """Search with every variant.

    Args:
        plan: its strategies do not matter.
        space: of the timed supernets.
    """
    ground, plan = GROUNDS[name](), settled(replace(plan, strategies=VARIANTS), name)
    searched = search_all(name, plan, progress)
    landscapes = get_landscapes(ground, plan)
    handed = judge(ground, searched, landscapes, get_latencies_ms(ground, plan, searched, progress))
    found: dict[str, Figure] = {}
    for variant, text in VARIANTS.items():
        own = [network for network in handed if network.strategy == variant]
        largest = [n for n in own if n.budget_ms == landscapes[n.device].budgets_ms[-1]]
        seconds = [each.seconds / each.searches for each in searched if each.strategy == variant and not each.failure]
        progress(f"{variant}: a gradient in the DARTS space")
        values: dict[str, tuple[Sequence[float], str]] = {
            **{dataset: (accuracies(largest, dataset), "%") for dataset in ground.truth.error},
            "budgets_kept": ([100 * network.kept for network in own], "%"),
            "search_s": (seconds, "s"),
            "darts_space_s": (time_gradients(text, space), "s"),
        }
        found |= {f"{variant}.{name}": over_seeds(those, unit=unit) for name, (those, unit) in values.items() if those}
    return {f"dca_ablation.{name}": figure for name, figure in found.items()}


def time_gradients(text: str, space: Space) -> list[float]:
    """Seconds of each gradient, after a first."""
    settings = parse_strategy(text).strategy
    assert isinstance(settings, DcaNas)
    torch.manual_seed(0)
    supernet = SlimSupernet(space, settings.shares_sources, settings.derives_cells, settings.bottleneck).train()
    gates = torch.full((len(space.slots), len(space.slots[0].primitives)), 1 / len(space.slots[0].primitives))
    images = torch.randn(IMAGES, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels, weights, seconds = torch.arange(IMAGES) % 10, list(supernet.parameters()), []
    with torch_threads(1):
        for _ in range(1 + REPEATS):
            begun_s = time.monotonic()
            torch.autograd.grad(F.cross_entropy(supernet(images, gates), labels), weights, allow_unused=True)
            seconds.append(time.monotonic() - begun_s)
    return seconds[1:]
