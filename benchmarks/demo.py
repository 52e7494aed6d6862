"""The main job from end to end on this machine: `make demo`.

The demo starts a server, profiles this machine, searches on Fashion-MNIST, takes members for six
budgets, has the agent measure them, prints the ladder and writes runs/demo/report.html. A second
run finds the table and the data of the first.

The demo is boxed in time: ten minutes, also beside other programs. The profile and the training of
the search end at their shares, or where later parts need the time. The ladder has all that is left:
it tunes its networks for as long as its measurements leave. What cannot be cut is kept free (the
fewest rounds, a measurement before and after the tuning, the test images, the report).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from types import FrameType

import torch

from benchmarks import Progress
from benchmarks.report import Figure
from benchmarks.stack import Stack, StackError, running_stack, this_device
from search.config import PRESETS, default_search_resolution
from search.deploy.hand_made import best_within, find_hand_made
from search.deploy.ladder import LADDER_FILE
from search.family.build import spread
from search.family.family import FamilySettings, load_family
from search.process.threads_and_memory import single_threaded_workers
from search.runs.run_directory import RunDirectory, on_device
from search.supernet import Supernet
from shared.spaces import Genotype, Space, parse_space

FOLDER = Path("runs/demo")
SPACE = parse_space("mobile/r32/c8/n2/k10/i3")
RESNETS = f"{Path(__file__).parent / 'by_hand' / 'small_resnets.py'}:make_networks"
BUDGETS, FACTOR = 6, 4.0
"""Budgets, and the largest over the smallest."""
ABOVE_FASTEST = 1.1
"""Least of a budget, in bounds of the fastest member."""
PATHS_PER_UPDATE, BATCH = 2, 32
QUICK = PRESETS["quick"]
MOST_TUNE_EPOCHS = 8.0
SECONDS_PER_TASK = 0.8
"""Of the campaign, on a machine that is never quiet."""
TOTAL_S = 570.0
"""Of ten minutes: the last measurements may take longer than the first."""
SEARCH_S, SEARCH_SHARE = 100.0, 0.2
"""At most for the updates of the search, and at most of what is left then."""
UPDATES_PER_CANDIDATE, LEAST_CANDIDATES = 6, 24
"""A score takes as long as two updates; there are as many for the baseline."""
REPORT_S = 15.0
"""For the report, and for the processes to end."""
START_S = 12.0
"""For a command of `search` to start, before its own time begins."""
ALPHA_COST = 1.4
"""Of an update of the search with its share of an update of alpha, in updates of the warm-up."""
OVERHEAD = 1.6
"""Of an update: waiting for the slower of its two paths, images, metrics, checkpoints."""
TIMED_PATHS = 24


@dataclass
class Watch:
    """The demo's time, and that of its parts.

    Attributes:
        parts_s: seconds of each finished part.
    """

    clock: Callable[[], float] = time.monotonic
    parts_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._started_s = self._part_s = self.clock()

    def spent_s(self) -> float:
        return self.clock() - self._started_s

    def end(self, part: str) -> None:
        """Count the time since the last end as that of a part."""
        now_s = self.clock()
        self.parts_s[part], self._part_s = round(now_s - self._part_s, 1), now_s

    def search_s(self) -> float:
        """For the updates of a search that starts now."""
        return min(SEARCH_S, SEARCH_SHARE * self.ladder_s())

    def ladder_s(self) -> float:
        """For a ladder that starts now: all that is left."""
        return max(TOTAL_S - REPORT_S - START_S - self.spent_s(), 0.0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for all files (default: %(default)s)")
    parser.add_argument("--device", default=this_device(), help="name of this machine (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of the Fashion-MNIST files, if not the usual one")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    watch = Watch()
    try:
        with running_stack(arguments.folder) as stack:
            missed = _demo(stack, arguments, watch)
    except StackError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"demo: interrupted; the measurements are in {arguments.folder}, `make demo` continues", file=sys.stderr)
        return 130
    seconds, parts = watch.spent_s(), ", ".join(f"{part} {part_s:.0f}" for part, part_s in watch.parts_s.items())
    told = {"seconds": round(seconds, 1), "parts": watch.parts_s}
    (arguments.folder / "demo.json").write_text(json.dumps(told) + "\n")
    print(f"done in {seconds:.0f} s ({parts}); report: {arguments.folder / 'report.html'}")
    if missed:
        print(f"demo: {missed}", file=sys.stderr)
    return 1 if missed else 0


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `demo.*` of a demo that starts from nothing.

    Raises:
        StackError: the demo failed.
    """
    return _figures(progress, "demo", "<= 600")


def run_beside_load(progress: Progress) -> dict[str, Figure]:
    """Figures `demo.busy.*`: as `run`, while another program keeps a core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            return _figures(progress, "demo.busy", "<= 900")
        finally:
            other.kill()


def _figures(progress: Progress, prefix: str, most_seconds: str) -> dict[str, Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress(f"{prefix}, from an empty folder")
        status = main(["--folder", name])
        if status and not (folder / "demo.json").exists():
            raise StackError(f"the demo ended with exit code {status}")
        seconds = json.loads((folder / "demo.json").read_text())["seconds"]
        rungs = json.loads((folder / LADDER_FILE).read_text())
        hand_made = find_hand_made(folder)
    use = [rung["measured_ms"] / rung["target_ms"] for rung in rungs]
    met = sum(rung["met"] for rung in rungs)
    accuracies, judged = [rung["accuracy"] for rung in rungs], [how_judged(rung["accuracy_kind"]) for rung in rungs]
    rivals = [(rung["accuracy"], best_within(hand_made, rung["target_ms"])) for rung in rungs]
    gains = [accuracy - (best.accuracy or 0.0) for accuracy, best in rivals if best]
    figures = {
        f"{prefix}.seconds": Figure(value=seconds, unit="s", n=1, bar=most_seconds),
        f"{prefix}.budgets_met": Figure(value=met, n=len(rungs), bar=f">= {BUDGETS}"),
        f"{prefix}.use": Figure(value=fmean(use), n=len(use), spread=f"{min(use):.2f} to {max(use):.2f}"),
        f"{prefix}.smallest_accuracy": Figure(value=accuracies[0], unit="%", n=1, spread=judged[0], bar=">= 89.5"),
        f"{prefix}.largest_accuracy": Figure(value=accuracies[-1], unit="%", n=1, spread=judged[-1], bar=">= 91.5"),
    }
    if gains:  # no ResNet may be within a budget: that is no gain of 0
        spread_of_gains = f"{min(gains):+.2f} to {max(gains):+.2f}"
        figures[f"{prefix}.gain_over_resnet"] = Figure(
            value=fmean(gains), unit="points", n=len(gains), spread=spread_of_gains, bar=">= 0"
        )
    return figures


def how_judged(accuracy_kind: str) -> str | None:
    """By how many of the test images, if time was short."""
    return next((part for part in accuracy_kind.split(", ") if part.startswith("judged")), None)


def _demo(stack: Stack, arguments: argparse.Namespace, watch: Watch) -> StackError | None:
    """The main job; returns what the ladder ended with if a budget was missed."""
    folder, device = arguments.folder, arguments.device
    run_folder = folder / "search"
    shutil.rmtree(run_folder, ignore_errors=True)
    watch.end("start")
    _headline(f"1/4  profile this machine as '{device}'")
    stack.profile(device, "--space", str(SPACE), "--seconds-per-task", str(SECONDS_PER_TASK))
    watch.end("profile")
    _headline("2/4  search a family on Fashion-MNIST")
    data = ("--data-dir", arguments.data_dir) if arguments.data_dir else ()
    speed = training_speed(SPACE, default_search_resolution(SPACE.resolution)) / PATHS_PER_UPDATE / OVERHEAD
    stack.search(
        "--device", device, "--lut-url", stack.url, "--space", str(SPACE), "--dataset", "fashion-mnist", *data,
        "--preset", "quick", *_fitting(watch.search_s(), speed), "--out", str(run_folder),
    )  # fmt: skip
    watch.end("search")
    _headline(f"3/4  take a member for each of {BUDGETS} budgets, and measure it on the device")
    missed: StackError | None = None
    ladder = folder / LADDER_FILE
    ladder.unlink(missing_ok=True)
    with stack.working_agent(device):
        try:
            stack.search(
                "ladder", "--run", str(run_folder), "--beside", RESNETS, "--max-latency-ms",
                *map(str, budgets(run_folder)), "--tune-epochs", str(MOST_TUNE_EPOCHS),
                "--seconds", f"{watch.ladder_s():.1f}", "--out", str(folder),
            )  # fmt: skip
        except StackError as error:
            if not ladder.exists():
                raise
            missed = error
    watch.end("ladder")
    _headline("4/4  write the report")
    stack.search("report", "--run", str(run_folder), "--ladder", str(ladder), "--out", str(folder / "report.html"))
    watch.end("report")
    return missed


def budgets(run_folder: Path) -> list[float]:
    """Milliseconds, up to what half of the table's networks take.

    Slower networks are trained several times as slowly, which the demo's minutes do not allow.
    Where a call itself takes long, the range is smaller: some network has to meet the first.
    """
    view = on_device(RunDirectory(run_folder))
    middle_ms = median(network.upper_ms for network in view.table.networks)
    fastest_ms = min(member.upper_ms for member in load_family(view).members)
    return spread(max(middle_ms / FACTOR, ABOVE_FASTEST * fastest_ms), middle_ms, BUDGETS)


def _fitting(seconds: float, updates_per_second: float) -> tuple[str, ...]:
    """Options of a search as long as the quick preset's, or shorter: as long as it may take.

    The steps follow the machine's speed of this moment, so that the learning rate falls to zero in
    time. Should the machine become slower, the time ends the training.
    """
    wanted = {name: QUICK[name] for name in ("warmup_steps", "search_steps")}
    wanted_s = (wanted["warmup_steps"] + ALPHA_COST * wanted["search_steps"]) / updates_per_second
    share = min(1.0, seconds / wanted_s)
    if share < 1:
        print(f"this machine trains {updates_per_second:.1f} updates a second: {share:.0%} of the quick search fit")
    steps = {name: max(round(share * count), 1) for name, count in wanted.items()}
    candidates = max(LEAST_CANDIDATES, min(FamilySettings.candidates, sum(steps.values()) // UPDATES_PER_CANDIDATE))
    options = {**steps, "candidates": candidates, "seconds": round(seconds, 1)}
    return tuple(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value)))


def training_speed(space: Space, resolution: int) -> float:
    """Networks of a space that this machine trains by a batch of 32 images each, per second."""
    supernet, draw = Supernet(space).train(), random.Random(0)
    weights, images = list(supernet.parameters()), torch.randn(BATCH, 3, resolution, resolution)
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
