"""Pick, tune, export and measure networks for a series of budgets.

    search ladder --run runs/rpi4 --budgets 6

The device measures each network before it is tuned, and again at the end. Writes ladder.json and
models/*.onnx. Networks of your own (--beside) are measured and trained in the same way.
Exit code 1 if a budget was not met.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from search.commands.pick import add_picking, add_run, open_counter, open_run
from search.commands.server import add_patience, measure_with, open_client
from search.deploy.hand_made import HandMade, best_within, load_hand_made
from search.deploy.ladder import LADDER_FILE, LadderBuilder, Rung, in_ms
from search.deploy.upload_result import post_result
from search.device.kernel_counts import CountKernels, no_counts
from search.family.build import spread
from search.family.family import by_kernels, load_family, make_candidates
from search.latency.latency_model import LatencyModel
from search.process.progress import working_progress
from search.retraining.finetune import TuningSettings
from search.runs.run_directory import DeviceRun
from shared.command_line import Commands, Parser, add_command, within
from shared.errors import InvalidValue, WrongUse

BUDGETS = 6
TUNE_EPOCHS = 0.25


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "ladder", run, __doc__)
    add_run(parser)
    add_budgets(parser, "bounds of this many members from the smallest to the largest")
    parser.add_argument(
        "--tune-epochs",
        type=float,
        default=TUNE_EPOCHS,
        metavar="E",
        help="per distinct network (default: %(default)g)",
    )
    text = "end after so long, or as soon after it as can be: tune less, and try no second network"
    parser.add_argument("--seconds", type=within(0), default=math.inf, metavar="S", help=text)
    text = "networks made by hand, beside the members: a function that returns a dict of nn.Module by name"
    parser.add_argument("--beside", metavar="FILE.py:FUNCTION", help=text)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="for ladder.json and models/ (default: the run's folder)"
    )
    add_picking(parser)
    add_patience(parser)


def add_budgets(parser: Parser, text: str) -> None:
    """--budgets, or --max-latency-ms with several values; `text` says what N budgets are."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--budgets", type=int, default=BUDGETS, metavar="N", help=f"{text} (default: %(default)d)")
    which.add_argument("--max-latency-ms", type=float, nargs="+", metavar="X", help="these budgets")


def run(args: argparse.Namespace) -> int:
    run = open_run(args)
    tuning = TuningSettings(args.tune_epochs, seed=run.config.seed, precision=run.config.precision)
    folder = args.out or run.folder
    if not folder.is_dir():
        raise WrongUse(f"--out: {folder} is no folder")
    hand_made = load_hand_made(args.beside, run.space) if args.beside else None
    with open_client(args, run) as client:
        measure, progress = measure_with(client, run, args), working_progress()
        count_kernels = open_counter(args, run, progress)
        builder = LadderBuilder(
            run, measure, tuning, progress, args.confidence, folder, count_kernels, args.seconds, hand_made
        )
        asked_ms = args.max_latency_ms or default_budgets(run, args.budgets, args.confidence, count_kernels)
        rungs = builder.build(sorted(asked_ms))
        post_result(client, run, rungs, progress.line)
    Console().print(ladder_table(rungs, builder.hand_made))
    if builder.hand_made:
        known = ", ".join(f"{network.name} {network.measured_ms:.3g} ms" for network in builder.hand_made)
        print(f"by hand: the most accurate that is within the target, of {known}")
    print(f"{sum(rung.met for rung in rungs)} of {len(rungs)} met; {folder / LADDER_FILE}")
    return 0 if all(rung.met for rung in rungs) else 1


def default_budgets(
    run: DeviceRun, count: int, confidence: float | None = None, count_kernels: CountKernels = no_counts
) -> list[float]:
    """Bounds of `count` members from the fastest to the slowest, nearest to a geometric series.

    They are the bounds that a pick compares with a budget. A family with fewer distinct bounds gives
    the geometric series itself.
    """
    if not 1 <= count <= 1000:
        raise InvalidValue("budgets", f"{count} is not within 1 to 1000")
    model = LatencyModel(run.table)
    confidence = run.config.confidence if confidence is None else confidence
    candidates = make_candidates(model, [member.genotype for member in load_family(run).members], confidence)
    priced = by_kernels(run.table, candidates, confidence, count_kernels)
    bounds_ms = sorted({candidate.upper_ms for candidate in priced})
    targets_ms = spread(bounds_ms[0], bounds_ms[-1], count)
    if count > len(bounds_ms):
        return targets_ms
    chosen = []
    for place, target_ms in enumerate(targets_ms):
        still_to_come = count - place - 1
        left = bounds_ms[: len(bounds_ms) - still_to_come]
        nearest_ms = min(left, key=lambda bound_ms: abs(math.log(bound_ms / target_ms)))
        chosen.append(nearest_ms)
        bounds_ms = [bound_ms for bound_ms in bounds_ms if bound_ms > nearest_ms]
    return chosen


def ladder_table(rungs: Sequence[Rung], hand_made: Sequence[HandMade] = ()) -> Table:
    """A row per budget, with the best network made by hand that is within it; 80 columns wide at most."""
    table = Table(title="latencies in ms", title_justify="left")
    names = ("target", "predicted", "bound", "measured", "met", "accuracy", "params")
    for name in (*names, "by hand") if hand_made else names:
        table.add_column(name, justify="right")
    for rung in rungs:
        row = [
            *(in_ms(value) for value in (rung.target_ms, rung.predicted_ms, rung.upper_ms, rung.measured_ms)),
            "yes" if rung.met else "NO",
            "" if rung.accuracy is None else f"{rung.accuracy:.2f} %",
            f"{rung.parameters:,}",
        ]
        best = best_within(hand_made, rung.target_ms)
        row += [f"{best.accuracy:.2f} %" if best else "none"] * bool(hand_made)
        table.add_row(*row)
    return table
