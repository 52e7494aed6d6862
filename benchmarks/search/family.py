"""The family that a search finds on Fashion-MNIST for this machine, in a space of cells.

The figures: the number of distinct members, whether their latency rises with the budget, the gaps
between them, and the number of members of the random baseline. `family_darts` and `family_fbnet`
are the other spaces.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import Progress
from benchmarks.report import Figure
from benchmarks.stack import Stack, running_stack, this_device

DATASET, PRESET = "fashion-mnist", "quick"
CELLS = ("--space", "nas-bench-201", "--resolution", "32", "--channels", "16", "--cells-per-stage", "2")
OTHER_SPACES = {
    "darts": ("--space", "darts", "--resolution", "32", "--channels", "16", "--depth", "3"),
    "fbnet": ("--space", "fbnet", "--resolution", "32", "--channels", "16", "--depth", "2", "--classes", "10"),
}


@dataclass(frozen=True)
class Bars:
    """The bars of a family; None is no bar."""

    distinct: int | None = None
    params_ratio: float | None = None
    largest_gap: float | None = None


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.family.*` of a space of cells."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        return searched(progress, stack, "search.family", CELLS, bars=Bars(distinct=8, params_ratio=5))


def run_darts(progress: Progress) -> dict[str, Figure]:
    """Figures `search.family.darts.*`; takes some minutes."""
    return _run_other("darts", progress)


def run_fbnet(progress: Progress) -> dict[str, Figure]:
    """Figures `search.family.fbnet.*`; takes some minutes."""
    return _run_other("fbnet", progress)


def _run_other(name: str, progress: Progress) -> dict[str, Figure]:
    bars = Bars(distinct=10, largest_gap=0.2)
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        return searched(progress, stack, f"search.family.{name}", OTHER_SPACES[name], bars=bars)


def searched(
    progress: Progress,
    stack: Stack,
    prefix: str,
    space: Sequence[str],
    preset: str = PRESET,
    dataset: str = DATASET,
    bars: Bars | None = None,
) -> dict[str, Figure]:
    """Profile this machine, search, and judge the family.

    Args:
        progress: takes a line per step.
        stack: with a server.
        prefix: of the figures' names.
        space: options of `profiler-agent profile`.
        preset, dataset: of the search.
        bars: of the family.
    """
    progress(f"profiling this machine: {space[1]}")
    stack.profile(this_device(), *space)
    progress(f"searching on {dataset}: {space[1]}")
    out, started_s = stack.folder / prefix, time.monotonic()
    stack.search(
        "--device", this_device(), "--lut-url", stack.url, "--space", space[1], "--dataset", dataset,
        "--preset", preset, "--out", str(out),
    )  # fmt: skip
    seconds = time.monotonic() - started_s
    family = json.loads((out / "family.json").read_text())
    return {
        **family_figures(prefix, family["members"], bars or Bars()),
        f"{prefix}.seconds": Figure(value=seconds, unit="s", n=1),
        f"{prefix}.random_distinct": Figure(value=len(family["random"]), n=1),
    }


def family_figures(prefix: str, members: list[dict[str, Any]], bars: Bars) -> dict[str, Figure]:
    """Figures of a family; its members are in the order of their bounds."""
    latencies_ms = [member["predicted_ms"] for member in members]
    parameters = [member["parameters"] for member in members]
    gaps = [(after - before) / (latencies_ms[-1] - latencies_ms[0]) for before, after in pairwise(latencies_ms)]
    rising = sum(before < after for before, after in pairwise(latencies_ms))
    distinct = len({member["genotype"] for member in members})
    return {
        f"{prefix}.distinct": Figure(value=distinct, n=1, bar=_bar(">=", bars.distinct)),
        f"{prefix}.rising_share": Figure(value=rising / len(gaps), n=len(gaps), bar=">= 1"),
        f"{prefix}.params_ratio": Figure(
            value=max(parameters) / min(parameters), n=1, bar=_bar(">=", bars.params_ratio)
        ),
        f"{prefix}.largest_gap": Figure(value=max(gaps), n=len(gaps), bar=_bar("<=", bars.largest_gap)),
    }


def _bar(relation: str, value: float | None) -> str | None:
    return None if value is None else f"{relation} {value:g}"
