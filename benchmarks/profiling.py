"""All that says how good the agent's numbers are: every part of it, one after the other, its figures in one file.

Each part is a benchmark of its own too, and has its own table in docs/results.md.
"""

from __future__ import annotations

import importlib

from benchmarks import REGISTRY, Progress
from benchmarks.report import Figure

PARTS = ("tables", "fbnet", "repeat", "foreign", "memory", "fixed_runs", "carriers", "active")


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `profiling.*` of all parts; takes most of an hour."""
    figures: dict[str, Figure] = {}
    for part in PARTS:
        figures |= importlib.import_module(REGISTRY[part]).run(progress)
    return figures
