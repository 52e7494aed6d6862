"""How the commands reach the table server, and the device behind it."""

from __future__ import annotations

import argparse

from search.deploy.ladder import Measure
from search.device.lut_client import LutClient
from search.device.verification import TIMEOUT_S, request_verification
from search.process.progress import working_progress
from search.runs.run_directory import DeviceRun, RunDirectory
from shared.command_line import find_access
from shared.errors import InvalidValue, in_one_line


def connect(url: str, args: argparse.Namespace) -> LutClient:
    """The client of a server, with token and certificates from the options or the environment."""
    token, ca_file = find_access(args)
    return LutClient(url, token, ca_file=ca_file)


def open_client(args: argparse.Namespace, run: RunDirectory) -> LutClient:
    """The client of the server that --lut-url or the run names."""
    return connect(getattr(args, "lut_url", None) or run.config.lut_url, args)


def add_patience(parser: argparse.ArgumentParser) -> None:
    """--timeout-s."""
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=TIMEOUT_S,
        metavar="S",
        help="longest wait for one measurement (default: %(default)g)",
    )


def measure_with(client: LutClient, run: DeviceRun, args: argparse.Namespace) -> Measure:
    """A function that has the run's device measure a file."""
    if not args.timeout_s > 0:
        raise InvalidValue("timeout-s", f"{args.timeout_s:g} is not a positive time")
    say = working_progress().line
    return lambda content, promise: request_verification(
        client, run.table, content, promise, args.timeout_s, lambda notice: say(in_one_line(notice))
    )
