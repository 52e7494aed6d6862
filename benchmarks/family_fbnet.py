"""As `benchmarks.family`, in the space `fbnet`."""

from __future__ import annotations

from benchmarks import Progress
from benchmarks.family import run_other
from benchmarks.report import Figure


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.family.fbnet.*`; takes some minutes."""
    return run_other("fbnet", progress)
