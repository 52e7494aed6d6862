"""The space `mobile` from table to verified ladder, at 32 x 32 and at 96 x 96 pixels, on this machine.

Each size: a campaign with the default preset, a quick search (Fashion-MNIST; drawn images of
`benchmarks.by_hand.own_images`), and six budgets from the fastest to the slowest member, each
measured by the agent.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import Progress
from benchmarks.by_hand.own_images import KINDS, draw_images
from benchmarks.report import Figure
from benchmarks.stack import Stack, climb, running_stack, this_device
from search.runs.run_directory import RunDirectory, on_device
from shared.spaces import Space, make_space

BUDGETS = 6


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `mobile.*`; takes half an hour."""
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as name, running_stack(Path(name)) as stack:
        images = Path(name) / "images"
        draw_images(images)
        for data_set, space in (
            ("fashion-mnist", make_space("mobile", resolution=32)),
            (f"folder:{images}", make_space("mobile", resolution=96, classes=len(KINDS))),
        ):
            progress(f"mobile: {space}")
            figures |= _judge(stack, space, data_set, Path(name) / f"search-{space.resolution}")
    return figures


def _judge(stack: Stack, space: Space, data_set: str, out: Path) -> dict[str, Figure]:
    device = this_device()
    stack.profile(device, "--space", str(space))
    stack.search(
        "--device", device, "--lut-url", stack.url, "--space", str(space), "--dataset", data_set, "--preset", "quick",
        "--out", str(out),
    )  # fmt: skip
    with stack.working_agent(device):
        rungs = climb(stack, out, "--budgets", str(BUDGETS), "--tune-epochs", "0")
    error = on_device(RunDirectory(out)).table.held_out
    assert error is not None
    met, prefix = sum(rung["met"] for rung in rungs), f"mobile.r{space.resolution}"
    return {
        f"{prefix}.mape_percent": Figure(value=error.mape_percent, unit="%", n=error.networks, bar="<= 2"),
        f"{prefix}.kendall_tau": Figure(value=error.kendall_tau, n=error.networks, bar=">= .95"),
        f"{prefix}.met": Figure(value=met, n=len(rungs), bar=f">= {BUDGETS}"),
        f"{prefix}.budgets_ratio": Figure(value=rungs[-1]["target_ms"] / rungs[0]["target_ms"], bar=">= 10"),
    }
