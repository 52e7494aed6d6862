"""Whole campaigns, searches and verifications on execution providers other than the CPU's.

Each provider has an environment of its own, made once under ~/.cache/lutnas: two builds of ONNX
Runtime would share a folder. The agent runs there, server and search here.

openvino:  nas-bench-201 (C=16, 32 x 32, 1 cell per stage) on the processor; the graph is hidden, so
           op prices alone.
webgpu:    nas-bench-201 (C=4, 8 x 8, 1 cell per stage) on SwiftShader, a driver that imitates a GPU:
           a thousand times slower, so the smallest sizes, and no timing is one of a device.

mape_percent:  error of the table on held-out networks, by kernel prices where there are some.
met:           budgets of the ladder that the shipped file kept.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks import DataMissing, Progress
from benchmarks.report import Figure
from benchmarks.stack import Stack, climb, running_stack

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "lut_server" / "provisioning" / "agent-constraints.txt"
CHROMIUM = Path("/usr/lib/chromium")
SWIFTSHADER = CHROMIUM / "vk_swiftshader_icd.json"


@dataclass(frozen=True)
class Case:
    """A provider and what is measured on it.

    Attributes:
        packages: that have it, exact.
        variables: of the agent's environment.
        profile: flags of `profiler-agent profile`.
        search: flags of `search`.
        note: stands beside each timing.
    """

    provider: str
    packages: tuple[str, ...]
    profile: str
    search: str
    budgets: int = 4
    variables: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    bars: Mapping[str, str] = field(default_factory=dict)


PATIENCE_S = 1800
"""A device that imitates a GPU takes minutes for a network."""
OPENVINO = Case(
    "openvino",
    ("onnxruntime-openvino==1.24.1", "openvino==2026.4.1"),
    "--resolution 32 --channels 16 --cells-per-stage 1 --calibration 40 --held-out 40",
    "--dataset fashion-mnist --preset quick",
    bars={"mape_percent": "<= 3", "met": ">= 4"},
)
WEBGPU = Case(
    "webgpu",
    ("onnxruntime-webgpu==1.27.0",),
    "--resolution 8 --channels 4 --cells-per-stage 1 --calibration 8 --held-out 8 --preset smoke",
    "--dataset digits --preset smoke",
    budgets=1,
    variables={"VK_DRIVER_FILES": str(SWIFTSHADER), "LD_LIBRARY_PATH": str(CHROMIUM)},
    note="emulated",
)


def run_openvino(progress: Progress) -> dict[str, Figure]:
    """Figures `providers.openvino.*`; takes 20 minutes."""
    return _run(OPENVINO, progress)


def run_webgpu(progress: Progress) -> dict[str, Figure]:
    """Figures `providers.webgpu.*`; takes half an hour."""
    return _run(WEBGPU, progress)


def _run(case: Case, progress: Progress) -> dict[str, Figure]:
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        table, rungs, seconds = carry_out(case, stack, progress)
    return figures_of(case, table, rungs, seconds)


def carry_out(case: Case, stack: Stack, progress: Progress) -> tuple[dict[str, Any], list[dict[str, Any]], float]:
    """Profile, search, and verify a member for each budget: (table, rungs of the ladder, seconds of the profile)."""
    progress(f"{case.provider}: {', '.join(case.packages)} in an environment of its own")
    device, out = f"{case.provider}-device", stack.folder / "search"
    there = replace(
        stack, agent_command=(str(environment(case)), "-m", "profiler_agent"), agent_variables=variables(case)
    )
    progress(f"{case.provider}: profiling")
    started_s = time.monotonic()
    there.profile(device, "--provider", case.provider, "--space", "nas-bench-201", *case.profile.split())
    seconds = time.monotonic() - started_s
    progress(f"{case.provider}: searching")
    stack.search("--device", device, "--lut-url", stack.url, *case.search.split(), "--out", str(out))
    progress(f"{case.provider}: a member for each of {case.budgets} budgets, measured")
    with there.working_agent(device):
        budgets = ("--budgets", str(case.budgets), "--tune-epochs", "0", "--timeout-s", str(PATIENCE_S))
        rungs = climb(stack, out, *budgets)
    table = httpx.get(f"{stack.url}/v1/devices/{device}/table", timeout=60).raise_for_status().json()
    return table, rungs, seconds


def figures_of(case: Case, table: Mapping[str, Any], rungs: list[dict[str, Any]], seconds: float) -> dict[str, Figure]:
    """The figures of a provider."""
    held_out = (table["kernels"] or table)["held_out"]
    networks = int(held_out["networks"])
    values = {
        "mape_percent": (held_out["mape_percent"], "%", networks),
        "within_10_percent": (held_out["within_10_percent"], "%", networks),
        "kendall_tau": (held_out["kendall_tau"], None, networks),
        "met": (sum(rung["met"] for rung in rungs), None, len(rungs)),
        "campaign_seconds": (seconds, "s", 1),
    }
    return {
        f"providers.{case.provider}.{name}": Figure(
            value=value, unit=unit, n=n, spread=case.note, bar=case.bars.get(name)
        )
        for name, (value, unit, n) in values.items()
    }


def environment(case: Case) -> Path:
    """The Python of the case's environment, which is made if it is not there.

    Raises:
        DataMissing: a package or a driver is not to be had.
    """
    if case.provider == "webgpu" and not SWIFTSHADER.exists():
        raise DataMissing(f"there is no {SWIFTSHADER} (Debian: apt-get install chromium)")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "lutnas" / "-".join(case.packages).replace("==", "-")
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        venv.create(folder, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
        wanted = ["httpx", "numpy", "rich", *case.packages]
        done = subprocess.run([*install, *wanted], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise DataMissing(f"{' and '.join(case.packages)} cannot be installed: {done.stderr.strip()[-300:]}")
        complete.touch()
    return python


def variables(case: Case) -> dict[str, str]:
    """Of the agent's environment: it runs from this checkout."""
    return {"PYTHONPATH": str(ROOT), **case.variables}
