"""What the commands on a finished run share: its options, the table server, and which member is meant."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from search.commands.server import connect
from search.deploy.climbing import Measure
from search.device.lut_client import LutClient
from search.device.verification import TIMEOUT_S, Patience, request_verification
from search.family.candidates import Offer, make_offers
from search.family.picking import Picker
from search.family.transfer_to_device import ask_about_unseen, find_unseen
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress, make_progress
from search.runs.run_directory import RunDirectory
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space


def add_run(parser: argparse.ArgumentParser) -> None:
    """--run, --device."""
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder of a finished search")
    parser.add_argument("--device", metavar="NAME", help="of the run, by default its only one; or any other")


def open_run(args: argparse.Namespace) -> RunDirectory:
    """The run as the device that was asked for sees it; one that is new to the run gets its family first.

    Raises:
        WrongUse: the folder holds no run; or it has several devices, and none was named.
        LutnasError: there is no table of a new device, or none that fits (`search.family.transfer_to_device`).
    """
    run = RunDirectory.open(args.run)
    if args.device is None or args.device in run.config.devices:
        return run.on(args.device)
    if (view := find_unseen(run, args.device)) is not None:
        return view
    with open_client(args, run) as client:
        return ask_about_unseen(run, args.device, client, working_progress())


def add_confidence(parser: argparse.ArgumentParser) -> None:
    """--confidence."""
    parser.add_argument("--confidence", type=float, help="of the latency bound (default: the search's, .99)")


def add_server(parser: argparse.ArgumentParser) -> None:
    """--lut-url, --token, --timeout-s."""
    parser.add_argument("--lut-url", help="of the table server (default: the search's)")
    parser.add_argument("--token", help="of the role `search` (default: LUTNAS_TOKEN)")
    parser.add_argument(
        "--timeout-s", type=float, default=TIMEOUT_S, help="longest wait for one measurement (default: %(default)g)"
    )


def open_client(args: argparse.Namespace, run: RunDirectory) -> LutClient:
    """The client of the table server that the options or the run name; not every command has these options."""
    url, token = getattr(args, "lut_url", None), getattr(args, "token", None)
    return connect(url or run.config.lut_url, token)


def measure_with(client: LutClient, run: RunDirectory, args: argparse.Namespace) -> Measure:
    """What asks the run's device."""
    if not args.timeout_s > 0:
        raise InvalidValue("timeout-s", f"{args.timeout_s:g} is not a positive time")
    patience = Patience(args.timeout_s)
    say = Console(stderr=True, soft_wrap=True).print
    return lambda content, promise: request_verification(client, run.table, content, promise, patience, on_notice=say)


def working_progress() -> Progress:
    """On stderr: stdout is for the result."""
    return make_progress(Console(stderr=True))


def parse_genotype(space: Space, text: str) -> Genotype:
    """A connected genotype, canonical.

    Raises:
        InvalidValue: it is none of the space, or does not connect input and output.
    """
    genotype = space.parse(text)
    if not space.is_connected(genotype):
        raise InvalidValue("genotype", f"{text} does not connect input and output")
    return space.canonical(genotype)


def offer_for(
    run: RunDirectory, max_latency_ms: float | None, genotype: str | None, confidence: float | None, progress: Progress
) -> Offer:
    """The network that is meant: the one of that name, or the best for the budget.

    Raises:
        BudgetTooSmall: no network meets the budget.
        InvalidValue: the genotype is none.
    """
    model = LatencyModel(run.table)
    if genotype is not None:
        named = parse_genotype(model.space, genotype)
        return make_offers(model, [named], run.config.confidence if confidence is None else confidence)[0]
    if max_latency_ms is None:
        raise InvalidValue("max-latency-ms", "is missing: give it, or a --genotype")
    return Picker(run, confidence).pick(max_latency_ms, progress).best
