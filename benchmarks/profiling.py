"""All that says how good the agent's numbers are."""

from __future__ import annotations

from benchmarks import Progress
from benchmarks.composed import run_parts
from benchmarks.report import Figure

PARTS = ("tables", "fbnet", "repeat", "foreign", "memory", "fixed_runs", "carriers", "active")


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `profiling.*` of all parts; takes most of an hour."""
    return run_parts(progress, PARTS)
