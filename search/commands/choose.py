"""Say which of several searches has the best network for a budget.

    search choose --run runs/narrow runs/wide --max-latency-ms 5 10 20

The searches are of one device and one data set, in spaces of other widths, depths or kinds.
Each gives its best-ranked networks for a budget. They are trained for a short time, side by
side, and judged on training images that gave no search its weights.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from search.commands.pick import add_picking, open_picker, open_run
from search.deploy.choice import NETWORKS, Contender, choose, require_alike
from search.deploy.ladder import in_ms
from search.process.progress import working_progress
from shared.command_line import Commands, Parser, add_command, within
from shared.errors import InvalidValue, WrongUse
from shared.wire import to_wire

EPOCHS = 1.0


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "choose", run, __doc__)
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, metavar="DIR", help="folders of finished searches"
    )
    parser.add_argument("--device", metavar="NAME", help="of the runs, by default their only one; or any other")
    parser.add_argument("--max-latency-ms", type=float, nargs="+", required=True, metavar="X", help="the budgets")
    text = "best-ranked networks of each search for each budget (default: %(default)d)"
    parser.add_argument("--networks", type=int, default=NETWORKS, metavar="N", help=text)
    text = "of each training, over the training images that judge nothing (default: %(default)g)"
    parser.add_argument("--epochs", type=within(0), default=EPOCHS, metavar="E", help=text)
    add_picking(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    folders, progress = list(dict.fromkeys(args.run)), working_progress()
    if args.networks < 1:
        raise InvalidValue("networks", f"{args.networks} is not 1 or more")
    if len(folders) == args.networks == 1:
        raise WrongUse("--run: there is nothing to choose between; give two searches or more, or --networks 2 or more")
    each = [argparse.Namespace(**{**vars(args), "run": folder}) for folder in folders]
    runs = [open_run(their_args) for their_args in each]
    require_alike(runs)
    pickers = [open_picker(their_args, run, progress) for their_args, run in zip(each, runs, strict=True)]
    found = choose(runs, pickers, sorted(set(args.max_latency_ms)), args.epochs, progress, args.networks)
    if args.json:
        print(json.dumps(to_wire(found), indent=1))
        return 0
    Console().print(_table(found, runs[0].table.device))
    for best in (each for each in found if each.is_best):
        print(
            f"{best.target_ms:g} ms: search train --run {shlex.quote(best.run)} --genotype {shlex.quote(best.network)}"
        )
    return 0


def _table(found: Sequence[Contender], device: str) -> Table:
    table = Table(title=f"{device}, latencies in ms, accuracy on training images held out", title_justify="left")
    for name in ("target", "run", "predicted", "bound", "accuracy", ""):
        table.add_column(name, justify="left" if name == "run" else "right")
    for each in found:
        accuracy = "" if each.accuracy is None else f"{each.accuracy:.2f} %"
        latencies = in_ms(each.predicted_ms), in_ms(each.upper_ms)
        table.add_row(in_ms(each.target_ms), Path(each.run).name, *latencies, accuracy, "best" if each.is_best else "")
    return table
