"""The error of a latency table on networks that no fit used.

Campaigns through a real server and a real agent, with at most 60 networks in each fit:
`nas-bench-201` (C=16, 32 x 32) with 1 and 5 cells per stage, and 5 cells in int8; `darts` (C=16, 8
cells, 32 x 32); `fbnet` at 128 and 224. Tables are scored by kernel prices (`NAME.*`) and by op
prices (`NAME.ops.*`), with 1 cell per stage by op prices alone. Two cases have simpler predictors
beside them, from the same measurements.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import Progress
from benchmarks.latency import calibration
from benchmarks.report import Figure
from benchmarks.stack import Stack, running_stack, this_device


@dataclass(frozen=True)
class Case:
    """A campaign and the bars of its kernel prices."""

    name: str
    space: str
    sizes: str
    calibration: int
    held_out: int
    bars: Mapping[str, str]
    kernels: bool = True


CELL_BARS = {"mape_percent": "<= 3", "within_10_percent": ">= 98", "kendall_tau": ">= .90"}
BOUND_BARS = {"bound_coverage": ">= 93", "bound_half_width_percent": "<= 4"}
OTHER_BARS = {"mape_percent": "<= 2", "within_10_percent": ">= 100", "kendall_tau": ">= .95", **BOUND_BARS}
CASES = (
    Case("nb201", "nas-bench-201", "--resolution 32 --channels 16 --cells-per-stage 1", 40, 60, CELL_BARS, False),
    Case(
        "nb201_n5",
        "nas-bench-201",
        "--resolution 32 --channels 16 --cells-per-stage 5",
        60,
        60,
        {
            "mape_percent": "<= 1.5",
            "within_5_percent": ">= 99",
            "within_10_percent": ">= 100",
            "kendall_tau": ">= .96",
            "campaign_seconds": "<= 90",
            **BOUND_BARS,
        },
    ),
    Case(
        "nb201_int8",
        "nas-bench-201",
        "--resolution 32 --channels 16 --cells-per-stage 5 --precision int8",
        60,
        60,
        {"mape_percent": "<= 3", "within_10_percent": ">= 98", **BOUND_BARS},
    ),
    Case(
        "darts",
        "darts",
        "--resolution 32 --channels 16 --depth 8",
        60,
        40,
        {**OTHER_BARS, "campaign_seconds": "<= 300"},
    ),
)
FBNET_CASES = tuple(
    Case(f"fbnet_{side}", "fbnet", f"--resolution {side}", 60, 30, {**OTHER_BARS, "campaign_seconds": "<= 600"})
    for side in (128, 224)
)

BASELINES_OF = ("nb201_n5", "darts")


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `profiling.CASE.*` of every case; takes five minutes."""
    return _run_cases(CASES, progress)


def run_fbnet(progress: Progress) -> dict[str, Figure]:
    """Figures `profiling.fbnet_SIZE.*`; takes a quarter of an hour."""
    return _run_cases(FBNET_CASES, progress)


def _run_cases(cases: Sequence[Case], progress: Progress) -> dict[str, Figure]:
    """All campaigns in turn, on the same server."""
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        for case in cases:
            progress(f"{case.name}: {case.calibration} networks in the fit, {case.held_out} held out")
            table, seconds = campaign(stack, case)
            figures |= case_figures(case, table, seconds)
            if case.name in BASELINES_OF:
                figures |= calibration.baseline_figures(calibration.read_newest(stack, case.space), case.name)
    return figures


def campaign(stack: Stack, case: Case) -> tuple[dict[str, Any], float]:
    """Profile this machine; returns the server's table and the agent's time in seconds."""
    started_s = time.monotonic()
    counts = ("--calibration", str(case.calibration), "--held-out", str(case.held_out))
    stack.profile(this_device(), "--space", case.space, *case.sizes.split(), *counts)
    seconds = time.monotonic() - started_s
    *_, newest = httpx.get(f"{stack.url}/v1/tables", params={"device": this_device()}, timeout=60).json()["tables"]
    table: dict[str, Any] = httpx.get(f"{stack.url}/v1/tables/{newest['hash']}", timeout=60).json()
    return table, seconds


def case_figures(case: Case, table: Mapping[str, Any], seconds: float) -> dict[str, Figure]:
    """The held-out errors in a table: kernel prices first, op prices beside them."""
    prefix = f"profiling.{case.name}"
    if not case.kernels:
        return held_out_figures(prefix, table["held_out"], case.bars, seconds)
    by_kernels = held_out_figures(prefix, table["kernels"]["held_out"], case.bars, seconds)
    return {**by_kernels, **held_out_figures(f"{prefix}.ops", table["held_out"], {})}


def held_out_figures(
    prefix: str, held_out: Mapping[str, float], bars: Mapping[str, str], campaign_seconds: float | None = None
) -> dict[str, Figure]:
    """A held-out error as figures."""
    units = {
        "mape_percent": "%",
        "within_5_percent": "%",
        "within_10_percent": "%",
        "kendall_tau": None,
        "bound_coverage": "%",
        "bound_half_width_percent": "%",
    }
    n = int(held_out["networks"])
    figures = {
        f"{prefix}.{name}": Figure(value=held_out[name], unit=unit, n=n, bar=bars.get(name))
        for name, unit in units.items()
    }
    if campaign_seconds is not None:
        bar = bars.get("campaign_seconds")
        figures[f"{prefix}.campaign_seconds"] = Figure(value=campaign_seconds, unit="s", n=1, bar=bar)
    return figures
