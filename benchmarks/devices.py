"""All that says how a device becomes one."""

from __future__ import annotations

from benchmarks import Progress
from benchmarks.composed import run_parts
from benchmarks.report import Figure

PARTS = ("devices_install", "devices_web")


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `devices.*` of all parts."""
    return run_parts(progress, PARTS)
