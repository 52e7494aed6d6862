"""As `benchmarks.family`, in the space `darts`."""

from __future__ import annotations

from benchmarks import Progress
from benchmarks.family import run_other
from benchmarks.report import Figure


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.family.darts.*`; takes some minutes."""
    return run_other("darts", progress)
