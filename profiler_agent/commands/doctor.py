"""`profiler-agent doctor`: how trustworthy numbers from this machine will be, and what to change."""

from __future__ import annotations

import argparse
import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from profiler_agent.commands.runtime import add_provider
from profiler_agent.spool.spool import Spool, default_spool
from shared.wire import to_wire


def add_doctor(commands: Any) -> None:
    """Add the command to the parser's commands."""
    doctor = commands.add_parser("doctor", help="say how trustworthy numbers from this machine will be")
    doctor.add_argument("--seconds", type=_seconds, default=60.0, metavar="S", help="how long to look (60)")
    doctor.add_argument("--spool", metavar="DIR", help="where a profile would be running that must not be disturbed")
    add_provider(doctor)
    doctor.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one inference (1)")
    doctor.add_argument("--json", action="store_true", help="as one JSON object")
    doctor.set_defaults(command=run_doctor, stateless=True)


def run_doctor(arguments: argparse.Namespace) -> int:
    """Examine the machine; 1 if numbers from it are not to be trusted."""
    from profiler_agent.doctor import examine, load_canaries, report_lines
    from profiler_agent.ort.sessions import local_runtime

    runtime = local_runtime(arguments.threads, provider=arguments.provider)
    if not arguments.json:
        print(f"looking at this machine for {arguments.seconds:g} s; leave it alone meanwhile", file=sys.stderr)
    spool = Spool(Path(arguments.spool) if arguments.spool else default_spool())
    # A campaign that runs at the same time would be examined with the machine, and be disturbed.
    with spool.measuring() if spool.folder.is_dir() else nullcontext():
        report = examine(arguments.seconds, graphs=load_canaries(runtime))
    if arguments.json:
        print(json.dumps(to_wire(report), indent=2))
    else:
        print("\n".join(report_lines(report)))
    return 1 if report.verdict == "poor" else 0


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600 or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not within 0.1 to 3600 seconds")
    return value
