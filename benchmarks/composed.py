"""Benchmarks of several parts: every part one after the other, all figures in one file.

Each part is a benchmark of its own too, and has its own table in docs/results.md.
"""

from __future__ import annotations

import importlib

from benchmarks import REGISTRY, Progress
from benchmarks.report import Figure


def run_parts(progress: Progress, parts: tuple[str, ...]) -> dict[str, Figure]:
    """The figures of all parts, each a name of `REGISTRY`."""
    figures: dict[str, Figure] = {}
    for part in parts:
        figures |= importlib.import_module(REGISTRY[part]).run(progress)
    return figures
