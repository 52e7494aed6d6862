"""As `benchmarks.tables`, for the space `fbnet` at 128 and at 224: two campaigns of several minutes each."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.report import Figure
from benchmarks.tables import OTHER_BARS, Case, run_cases

CASES = (
    Case("fbnet_128", "fbnet", "--resolution 128", 60, 30, {**OTHER_BARS, "campaign_seconds": "<= 600"}),
    Case("fbnet_224", "fbnet", "--resolution 224", 60, 30, {**OTHER_BARS, "campaign_seconds": "<= 600"}),
)


def run(progress: Callable[[str], None]) -> dict[str, Figure]:
    """Figures `profiling.fbnet_SIZE.*`; takes a quarter of an hour."""
    return run_cases(CASES, progress)
