"""The share of 20 budgets that the picked members keep on this machine.

This machine is profiled and searched for. The budgets are a geometric series from the bound of the
fastest member to that of the best-ranked member. The members' own bounds would flatter the use of a
budget. (Members slower than the best-ranked fill places that the front left empty; no pick takes
them.) Members are picked, exported and verified as in `search ladder`, without tuning: latency does
not depend on the values of the weights.

met:           budgets that the shipped file kept. `met_at_first`: without a second network or
               measurement.
use:           mean of measured / budget, so that a bound may not waste it. Its factors:
               `bound_share` (bound / budget) and `measured_of_bound`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks import Progress
from benchmarks.report import Figure
from benchmarks.search.family import CELLS
from benchmarks.stack import climb, running_stack, this_device

BUDGETS = 20


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.verify.*`; takes ten minutes."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        device, out = this_device(), Path(folder) / "search"
        progress("profiling this machine")
        stack.profile(device, *CELLS)
        progress("searching on fashion-mnist")
        stack.search(
            "--device", device, "--lut-url", stack.url, "--dataset", "fashion-mnist", "--preset", "quick",
            "--out", str(out),
        )  # fmt: skip
        budgets_ms = series_ms(json.loads((out / "family.json").read_text())["members"])
        progress(f"a member for each of {BUDGETS} budgets, measured")
        with stack.working_agent(device):
            targets = (f"{budget_ms:.6f}" for budget_ms in budgets_ms)
            return figures(climb(stack, out, "--tune-epochs", "0", "--max-latency-ms", *targets))


def series_ms(members: list[dict[str, Any]]) -> list[float]:
    """Budgets from the smallest bound of a family to that of its best-ranked member."""
    smallest_ms = min(member["upper_ms"] for member in members)
    best = min(members, key=lambda member: member["rank"])
    return [float(budget_ms) for budget_ms in np.geomspace(1.0001 * smallest_ms, best["upper_ms"], BUDGETS)]


def figures(rungs: list[dict[str, Any]]) -> dict[str, Figure]:
    """Figures from the rungs of `ladder.json`."""
    n = len(rungs)
    use = [rung["measured_ms"] / rung["target_ms"] for rung in rungs]
    at_first = sum(all(attempt["met"] for attempt in rung["attempts"]) for rung in rungs)
    return {
        "search.verify.met": Figure(value=sum(rung["met"] for rung in rungs), n=n, bar=f">= {BUDGETS}"),
        "search.verify.met_at_first": Figure(value=at_first, n=n),
        "search.verify.use": Figure(value=fmean(use), n=n, spread=f"{min(use):.3f} to {max(use):.3f}", bar=">= .9"),
        "search.verify.bound_share": Figure(value=fmean(rung["upper_ms"] / rung["target_ms"] for rung in rungs), n=n),
        "search.verify.measured_of_bound": Figure(
            value=fmean(rung["measured_ms"] / rung["upper_ms"] for rung in rungs), n=n
        ),
        "search.verify.distinct": Figure(value=len({rung["genotype"] for rung in rungs}), n=n),
    }
