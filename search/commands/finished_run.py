"""Options and objects that the commands on a finished run share: run, server, picker, network."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from search.commands.server import connect
from search.deploy.ladder import Measure
from search.device.kernel_counts import CountKernels, KernelCounter, no_counts
from search.device.lut_client import LutClient
from search.device.verification import TIMEOUT_S, Patience, request_verification
from search.family.candidates import Candidate
from search.family.picking import Picker, price_network
from search.family.transfer_to_device import ask_about_unseen, find_unseen
from search.process.progress import Progress, make_progress
from search.runs.run_directory import DeviceRun, RunDirectory, on_device
from shared.command_line import Parser, add_server
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space


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


def add_patience(parser: argparse.ArgumentParser) -> None:
    """--timeout-s."""
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=TIMEOUT_S,
        metavar="S",
        help="longest wait for one measurement (default: %(default)g)",
    )


def open_client(args: argparse.Namespace, run: RunDirectory) -> LutClient:
    """The client of the server that --lut-url or the run names."""
    return connect(getattr(args, "lut_url", None) or run.config.lut_url, args)


def measure_with(client: LutClient, run: DeviceRun, args: argparse.Namespace) -> Measure:
    """A function that has the run's device measure a file."""
    if not args.timeout_s > 0:
        raise InvalidValue("timeout-s", f"{args.timeout_s:g} is not a positive time")
    patience = Patience(args.timeout_s)
    say = Console(stderr=True, soft_wrap=True).print
    return lambda content, promise: request_verification(client, run.table, content, promise, patience, on_notice=say)


def working_progress() -> Progress:
    """Progress on stderr; stdout is for the result."""
    return make_progress(Console(stderr=True))


def parse_genotype(space: Space, text: str) -> Genotype:
    """A connected genotype, canonical.

    Raises:
        InvalidValue: it is not of the space, or does not connect input and output.
    """
    genotype = space.parse(text)
    if not space.is_connected(genotype):
        raise InvalidValue("genotype", f"{text} does not connect input and output")
    return space.canonical(genotype)


def open_picker(args: argparse.Namespace, run: DeviceRun, progress: Progress) -> Picker:
    """The picker, with --confidence and the kernel counts of the run, the server and the device.

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
        InvalidValue: the confidence is not within 0.5 and 1.
    """
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
