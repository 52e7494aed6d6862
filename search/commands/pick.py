"""Say which network of a finished search is the best for a latency budget.

    search pick --run runs/rpi4 --max-latency-ms 20

Its upper bound on the device lies within the budget.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from search.commands.finished_run import add_picking, add_run, open_picker, open_run, working_progress
from search.commands.output import print_json
from search.family.picking import Pick
from shared.command_line import Commands, Parser, add_command
from shared.spaces import Genotype
from shared.wire import to_wire

SHOWN = 5


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "pick", run, __doc__)
    add_run(parser)
    parser.add_argument("--max-latency-ms", type=float, required=True, metavar="X", help="the budget")
    add_picking(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    console = Console()
    run, progress = open_run(args), working_progress()
    pick = open_picker(args, run, progress).pick(args.max_latency_ms, progress)
    if args.json:
        print_json(console, to_wire(pick, {Genotype: run.space.format}))
    else:
        console.print(_table(pick, run.table.device))
        genotype = run.space.format(pick.best.genotype)
        console.print(f"genotype: {genotype}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _table(pick: Pick, device: str) -> Table:
    table = Table(title=f"{device}, at most {pick.budget_ms:g} ms, confidence {pick.confidence:g}")
    for name in ("", "predicted ms", "bound ms", "parameters", "multiply-adds", "from", "rank", "inherited accuracy"):
        table.add_column(name, justify="right")
    for place, member in enumerate((pick.best, *pick.runners_up[: SHOWN - 1])):
        table.add_row(
            "best" if place == 0 else f"{place + 1}.",
            f"{member.predicted_ms:.3f}",
            f"{member.upper_ms:.3f}",
            f"{member.parameters:,}",
            f"{member.multiply_adds:,}",
            member.by,
            f"{member.rank:.1f}",
            f"{member.accuracy:.1f} %",
        )
    return table
