"""Say which network of a finished search is the best for a latency budget.

    search pick --run runs/rpi4 --max-latency-ms 20

Its upper bound on the device lies within the budget.
"""

# `train`, `export`, `verify` and `ladder` open the run and choose their network with the functions of this module.

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from search.commands.server import open_client
from search.device.kernel_counts import CountKernels, KernelCounter, no_counts
from search.family.family import Candidate, Pick, Picker, price_network
from search.family.transfer_to_device import ask_about_unseen, find_unseen
from search.process.progress import Progress, working_progress
from search.runs.run_directory import DeviceRun, RunDirectory, on_device
from shared.command_line import Commands, Parser, add_command, add_server
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space
from shared.wire import to_wire

SHOWN = 5


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "pick", run, __doc__)
    add_run(parser)
    parser.add_argument("--max-latency-ms", type=float, required=True, metavar="X", help="the budget")
    add_picking(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    run, progress = open_run(args), working_progress()
    pick = open_picker(args, run, progress).pick(args.max_latency_ms, progress)
    if args.json:
        print(json.dumps(to_wire(pick, {Genotype: run.space.format}), indent=1))
    else:
        Console().print(_table(pick, run.table.device))
        print(f"genotype: {run.describe(pick.best.genotype)}")
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
            f"{member.multiply_adds:,}" if member.multiply_adds else "-",
            member.by,
            f"{member.rank:.1f}",
            f"{member.accuracy:.1f} %",
        )
    return table


def add_run(parser: argparse.ArgumentParser) -> None:
    """--run, --device."""
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder of a finished search")
    parser.add_argument("--device", metavar="NAME", help="of the run, by default its only one; or any other")


def open_run(args: argparse.Namespace) -> DeviceRun:
    """The run for the device that --device names; a device new to the run gets its family first.

    Raises:
        WrongUse: the folder holds no run; or it has several devices, and none was named.
        LutnasError: a new device has no table that fits (`search.family.transfer_to_device`).
    """
    run = RunDirectory.open(args.run)
    if args.device is None or args.device in run.config.devices:
        return on_device(run, args.device)
    if (view := find_unseen(run, args.device)) is not None:
        return view
    with open_client(args, run) as client:
        return ask_about_unseen(run, args.device, client, working_progress())


def add_picking(parser: Parser) -> None:
    """--confidence, and the options of the server."""
    parser.add_argument(
        "--confidence", type=float, metavar="P", help="of the latency bound (default: the search's, .99)"
    )
    add_server(parser, "search", required=False, default="the search's")


def open_picker(args: argparse.Namespace, run: DeviceRun, progress: Progress) -> Picker:
    """The picker, with --confidence and the kernel counts of the run, the server and the device.

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
        InvalidValue: the confidence is not within 0.5 and 1.
    """
    if run.table.settled is not None and run.table.settled.doubt:
        progress.line(f"table of {run.table.device}: {run.table.settled.doubt}")
    return Picker(run, args.confidence, open_counter(args, run, progress))


def open_counter(args: argparse.Namespace, run: DeviceRun, progress: Progress) -> CountKernels:
    """A counter of kernels that asks the server; a line says what it could not ask."""
    if run.table.kernels is None:
        return no_counts
    return KernelCounter(run, lambda: open_client(args, run), progress.line)


def choose_network(
    args: argparse.Namespace, run: DeviceRun, genotype: Genotype | None, progress: Progress
) -> Candidate:
    """The network of the genotype, or the pick for --max-latency-ms.

    Raises:
        BudgetTooSmall: no network meets the budget.
        InvalidValue: neither was given.
    """
    if genotype is not None:
        return price_network(run, genotype, args.confidence, open_counter(args, run, progress))
    if args.max_latency_ms is None:
        raise InvalidValue("max-latency-ms", "is missing: give it, or a --genotype")
    return open_picker(args, run, progress).pick(args.max_latency_ms, progress).best


def parse_genotype(space: Space, text: str) -> Genotype:
    """A connected genotype, canonical.

    Raises:
        InvalidValue: it is not of the space, or does not connect input and output.
    """
    genotype = space.parse(text)
    space.check_network(genotype)
    return space.canonical(genotype)
