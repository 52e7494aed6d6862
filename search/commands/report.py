"""Write the report of a finished search: one HTML file that needs no network.

search report --run runs/rpi4
"""

from __future__ import annotations

import argparse
from pathlib import Path

from search.commands.pick import add_run, open_run
from search.report import build_report
from shared.atomic_files import write_atomically
from shared.command_line import Commands, Parser, add_command
from shared.errors import WrongUse


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "report", run, __doc__)
    add_run(parser)
    parser.add_argument(
        "--ladder", type=Path, metavar="FILE", help="the ladder to show (default: the run's own, if any)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page to write (default: report.html in the run)")


def run(args: argparse.Namespace) -> None:
    run = open_run(args)
    out = args.out or run.folder / "report.html"
    if not out.parent.is_dir():
        raise WrongUse(f"--out: {out.parent} is no folder")
    if args.ladder is not None and not args.ladder.is_file():
        raise WrongUse(f"--ladder: there is no file {args.ladder}")
    write_atomically(out, build_report(run, args.ladder).encode())
    print(out)
