"""What one search gives: a family on Fashion-MNIST for this machine, as the demo searches it.

How many distinct members it has, whether their latency rises with the budget, how far they lie apart, and how many the
random baseline has.
"""

from __future__ import annotations

import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import Progress
from benchmarks.demo import SPACE
from benchmarks.report import Figure
from benchmarks.stack import running_stack, this_device


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.family.*`."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        progress("profiling this machine")
        stack.profile(this_device(), *SPACE)
        progress("searching on Fashion-MNIST")
        out, started_s = Path(folder) / "search", time.monotonic()
        stack.search(
            "--device", this_device(), "--lut-url", stack.url, "--dataset", "fashion-mnist",
            "--preset", "demo", "--out", str(out),
        )  # fmt: skip
        seconds = time.monotonic() - started_s
        family = json.loads((out / "family.json").read_text())
    return {
        **family_figures("search.family", family["members"]),
        "search.family.seconds": Figure(value=seconds, unit="s", n=1),
        "search.family.random_distinct": Figure(value=len(family["random"]), n=1),
    }


def family_figures(prefix: str, members: list[dict[str, Any]]) -> dict[str, Figure]:
    """Figures of a family whose members stand in the order of their bounds."""
    latencies_ms = [member["predicted_ms"] for member in members]
    gaps = [(after - before) / (latencies_ms[-1] - latencies_ms[0]) for before, after in pairwise(latencies_ms)]
    rising = sum(before < after for before, after in pairwise(latencies_ms))
    return {
        f"{prefix}.distinct": Figure(value=len({member["genotype"] for member in members}), n=1, bar=">= 8"),
        f"{prefix}.rising_share": Figure(value=rising / len(gaps), n=len(gaps), bar=">= 1"),
        f"{prefix}.params_ratio": Figure(
            value=max(member["parameters"] for member in members) / min(member["parameters"] for member in members),
            n=1,
            bar=">= 5",
        ),
        f"{prefix}.largest_gap": Figure(value=max(gaps), n=len(gaps)),
    }
