"""The main job from end to end on this machine: `make demo`.

The demo starts a server, profiles this machine, searches on Fashion-MNIST, takes members for six
budgets, has the agent measure them, prints the ladder and writes runs/demo/report.html. A second
run finds the table and the data of the first.

The demo keeps to ten minutes on a slow machine too: it times the training first, and trains for as
many updates as fit.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import torch

from benchmarks import Progress
from benchmarks.report import Figure
from benchmarks.stack import Stack, StackError, running_stack, this_device
from search.config import PRESETS, default_search_resolution
from search.process.threads_and_memory import single_threaded_workers
from search.supernet import Supernet
from shared.spaces import Genotype, Space, parse_space

FOLDER = Path("runs/demo")
SPACE_OPTIONS = ("--space", "nas-bench-201", "--resolution", "32", "--channels", "16", "--cells-per-stage", "2")
SPACE = parse_space("nas-bench-201/r32/c16/n2/k10/i3")
BUDGETS = 6
PATHS_PER_UPDATE, TUNING_BATCH = 2, 32
QUICK = PRESETS["quick"]
MOST_TUNE_EPOCHS, LEAST_TUNE_EPOCHS = 0.15, 0.01
SECONDS_PER_TASK = 1.2
"""Of the campaign, on a machine that is never quiet."""
TOTAL_S, SEARCH_S, MEASURING_S = 540.0, 100.0, 300.0
"""The whole demo, the updates of the search, and all of the ladder that is not tuning."""
ALPHA_COST = 1.4
"""Of an update of the search with its share of an update of alpha, in updates of the warm-up."""
OVERHEAD = 1.6
"""Of an update: waiting for the slower of its two paths, images, metrics, checkpoints."""
TUNING_OVERHEAD = 3.0
"""Of a batch of the tuning: images prepared in full size, and networks larger than the mean."""
TIMED_PATHS = 24
TRAINING_IMAGES = 60_000


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for all files (default: %(default)s)")
    parser.add_argument("--device", default=this_device(), help="name of this machine (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of the Fashion-MNIST files, if not the usual one")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    started_s = time.monotonic()
    try:
        with running_stack(arguments.folder) as stack:
            _demo(stack, arguments, started_s)
    except StackError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"demo: interrupted; the measurements are in {arguments.folder}, `make demo` continues", file=sys.stderr)
        return 130
    seconds = time.monotonic() - started_s
    (arguments.folder / "demo.json").write_text(json.dumps({"seconds": round(seconds, 1)}) + "\n")
    print(f"done in {seconds:.0f} s; the report: {arguments.folder / 'report.html'}")
    return 0


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `demo.*` of a demo that starts from nothing.

    Raises:
        StackError: the demo failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        progress("the demo, from an empty folder")
        if status := main(["--folder", folder]):
            raise StackError(f"the demo ended with exit code {status}")
        seconds = json.loads((Path(folder) / "demo.json").read_text())["seconds"]
        rungs = json.loads((Path(folder) / "ladder.json").read_text())
    use = [rung["measured_ms"] / rung["target_ms"] for rung in rungs]
    met = sum(rung["met"] for rung in rungs)
    return {
        "demo.seconds": Figure(value=seconds, unit="s", n=1, bar="<= 600"),
        "demo.budgets_met": Figure(value=met, n=len(rungs), bar=f">= {BUDGETS}"),
        "demo.use": Figure(value=sum(use) / len(use), n=len(use), spread=f"{min(use):.2f} to {max(use):.2f}"),
    }


def _demo(stack: Stack, arguments: argparse.Namespace, started_s: float) -> None:
    folder, device = arguments.folder, arguments.device
    run_folder = folder / "search"
    shutil.rmtree(run_folder, ignore_errors=True)
    _headline(f"1/4  profile this machine as '{device}'")
    stack.profile(device, *SPACE_OPTIONS, "--seconds-per-task", str(SECONDS_PER_TASK))
    _headline("2/4  search a family on Fashion-MNIST")
    data = ("--data-dir", arguments.data_dir) if arguments.data_dir else ()
    steps = _fitting_steps()
    stack.search(
        "--device", device, "--lut-url", stack.url, "--dataset", "fashion-mnist", *data,
        "--preset", "quick", *steps, "--out", str(run_folder),
    )  # fmt: skip
    _headline(f"3/4  take a member for each of {BUDGETS} budgets, and measure it on the device")
    epochs = _fitting_epochs(TOTAL_S - MEASURING_S - (time.monotonic() - started_s))
    with stack.working_agent(device):
        stack.search(
            "ladder", "--run", str(run_folder), "--budgets", str(BUDGETS), "--tune-epochs", f"{epochs:.2g}",
            "--out", str(folder),
        )  # fmt: skip
    _headline("4/4  write the report")
    report = ("--ladder", str(folder / "ladder.json"), "--out", str(folder / "report.html"))
    stack.search("report", "--run", str(run_folder), *report)


def _fitting_steps() -> tuple[str, ...]:
    """Options of a search as long as the quick preset's, or shorter: as long as it may take."""
    paths_per_second = training_speed(SPACE, default_search_resolution(SPACE.resolution))
    updates_per_second = paths_per_second / PATHS_PER_UPDATE / OVERHEAD
    wanted = {name: QUICK[name] for name in ("warmup_steps", "search_steps")}
    wanted_s = (wanted["warmup_steps"] + ALPHA_COST * wanted["search_steps"]) / updates_per_second
    share = min(1.0, SEARCH_S / wanted_s)
    if share < 1:
        print(f"this machine trains {updates_per_second:.1f} updates a second: {share:.0%} of the quick search fit")
    options = {name: max(round(share * count), 1) for name, count in wanted.items()}
    return tuple(part for name, count in options.items() for part in (f"--{name.replace('_', '-')}", str(count)))


def _fitting_epochs(seconds: float) -> float:
    """Epochs for which each of the six networks is tuned within so many seconds."""
    images_per_second = TUNING_BATCH * training_speed(SPACE, SPACE.resolution) / TUNING_OVERHEAD
    fitting = seconds * images_per_second / (BUDGETS * TRAINING_IMAGES)
    return min(max(fitting, LEAST_TUNE_EPOCHS), MOST_TUNE_EPOCHS)


def training_speed(space: Space, resolution: int) -> float:
    """Networks of a space that this machine trains by a batch of 32 images each, per second."""
    supernet, draw = Supernet(space).train(), random.Random(0)
    weights, images = list(supernet.parameters()), torch.randn(TUNING_BATCH, 3, resolution, resolution)
    paths = [space.sample(draw) for _ in range(TIMED_PATHS)]

    def update(path: Genotype) -> None:
        torch.autograd.grad(supernet(images, path).square().mean(), weights, allow_unused=True)

    with single_threaded_workers(2) as pool:
        list(pool.map(update, paths[:4]))
        started_s = time.monotonic()
        list(pool.map(update, paths))
    return TIMED_PATHS / (time.monotonic() - started_s)


def _headline(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
