"""How far a latency table is off on networks that no fit ever saw, and how well the table repeats.

One campaign of `nas-bench-201` (C=16, one cell per stage, 32 x 32) through a real server and a real agent; 60 held-out
networks. Then `benchmarks.repeat`: six campaigns against plain medians, side by side.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from benchmarks import repeat
from benchmarks.report import Figure
from benchmarks.stack import running_stack, this_device

CALIBRATION, HELD_OUT = 40, 60


def run(progress: Callable[[str], None]) -> dict[str, Figure]:
    """Figures `profiling.nb201.*` and `profiling.repeat.*`."""
    progress(f"one campaign: {CALIBRATION} networks in the fit, {HELD_OUT} held out")
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        started_s = time.monotonic()
        stack.profile(
            this_device(), "--space", "nas-bench-201", "--resolution", "32", "--channels", "16",
            "--cells-per-stage", "1", "--calibration", str(CALIBRATION), "--held-out", str(HELD_OUT),
        )  # fmt: skip
        campaign_seconds = time.monotonic() - started_s
        table = httpx.get(f"{stack.url}/v1/devices/{this_device()}/table", params={"space": "nas-bench-201"}).json()
    return {**held_out_figures("profiling.nb201", table["held_out"], campaign_seconds), **repeat.run(progress)}


def held_out_figures(prefix: str, held_out: dict[str, float], campaign_seconds: float) -> dict[str, Figure]:
    """What a table says of itself, as figures with the bars of the project."""
    n = int(held_out["networks"])

    def figure(name: str, unit: str | None, bar: str | None) -> Figure:
        return Figure(value=held_out[name], unit=unit, n=n, bar=bar)

    return {
        f"{prefix}.mape_percent": figure("mape_percent", "%", "<= 3"),
        f"{prefix}.within_5_percent": figure("within_5_percent", "%", None),
        f"{prefix}.within_10_percent": figure("within_10_percent", "%", ">= 98"),
        f"{prefix}.kendall_tau": figure("kendall_tau", None, ">= .90"),
        f"{prefix}.bound_coverage": figure("bound_coverage", "%", None),
        f"{prefix}.bound_half_width_percent": figure("bound_half_width_percent", "%", None),
        f"{prefix}.campaign_seconds": Figure(value=campaign_seconds, unit="s", n=1),
    }
