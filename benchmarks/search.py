"""All that says what a search is worth, but for the truth of NAS-Bench-201, which is a benchmark of its own."""

from __future__ import annotations

from benchmarks import Progress
from benchmarks.composed import run_parts
from benchmarks.report import Figure

PARTS = (
    "family",
    "family_darts",
    "family_fbnet",
    "verify",
    "speed",
    "several_devices",
    "fmnist",
    "ablations",
    "inherit",
)


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.*` of all parts; takes several hours."""
    return run_parts(progress, PARTS)
