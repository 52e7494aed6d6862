"""The main job from end to end on this machine: `make demo`.

The demo starts a server, profiles this machine, searches on Fashion-MNIST, takes members for six
budgets, has the agent measure them, prints the ladder and writes runs/demo/report.html. A second
run finds the table and the data of the first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from benchmarks import Progress
from benchmarks.report import Figure
from benchmarks.stack import Stack, StackError, running_stack, this_device

FOLDER = Path("runs/demo")
SPACE = ("--space", "nas-bench-201", "--resolution", "32", "--channels", "16", "--cells-per-stage", "2")
BUDGETS = 6
TUNE_EPOCHS = 0.15
"""Less than the ladder's default, so that a busy machine keeps the ten minutes."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for all files (default: %(default)s)")
    parser.add_argument("--device", default=this_device(), help="name of this machine (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of the Fashion-MNIST files, if not the usual one")
    parser.add_argument("--preset", default="quick", help="length of the search (default: %(default)s)")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    started_s = time.monotonic()
    try:
        with running_stack(arguments.folder) as stack:
            _demo(stack, arguments)
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


def _demo(stack: Stack, arguments: argparse.Namespace) -> None:
    folder, device = arguments.folder, arguments.device
    run_folder = folder / "search"
    shutil.rmtree(run_folder, ignore_errors=True)
    _headline(f"1/4  profile this machine as '{device}'")
    stack.profile(device, *SPACE)
    _headline("2/4  search a family on Fashion-MNIST")
    data = ("--data-dir", arguments.data_dir) if arguments.data_dir else ()
    stack.search(
        "--device", device, "--lut-url", stack.url, "--dataset", "fashion-mnist", *data,
        "--preset", arguments.preset, "--out", str(run_folder),
    )  # fmt: skip
    _headline(f"3/4  take a member for each of {BUDGETS} budgets, and measure it on the device")
    with stack.working_agent(device):
        stack.search(
            "ladder", "--run", str(run_folder), "--budgets", str(BUDGETS), "--tune-epochs", str(TUNE_EPOCHS),
            "--out", str(folder),
        )  # fmt: skip
    _headline("4/4  write the report")
    stack.search(
        "report",
        "--run",
        str(run_folder),
        "--ladder",
        str(folder / "ladder.json"),
        "--out",
        str(folder / "report.html"),
    )


def _headline(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
