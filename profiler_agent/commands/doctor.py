"""Say how trustworthy numbers from this machine will be, and what to change.

profiler-agent doctor --seconds 20
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext

from profiler_agent.commands.options import add_provider, add_spool, open_spool
from shared.command_line import Commands, Parser, add_command, within
from shared.wire import to_wire


def add(commands: Commands[Parser]) -> None:
    doctor = add_command(commands, "doctor", run, __doc__)
    doctor.add_argument("--seconds", type=within(0.1, 3600), default=60.0, metavar="S", help="how long to look (60)")
    add_provider(doctor)
    doctor.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one inference (1)")
    add_spool(doctor, keeps=False)
    doctor.add_argument("--json", action="store_true", help="as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Examine the machine; 1 if numbers from it are not to be trusted."""
    from profiler_agent.doctor import examine, load_canaries, report_lines
    from profiler_agent.ort.sessions import local_runtime
    from profiler_agent.timing.round_timer import find_thread_clock

    runtime = local_runtime(arguments.threads, provider=arguments.provider)
    if not arguments.json:
        print(f"looking at this machine for {arguments.seconds:g} s; leave it alone meanwhile", file=sys.stderr)
    spool = open_spool(arguments)
    # A campaign that runs at the same time would be examined with the machine, and be disturbed.
    with spool.measuring_lock() if spool.folder.is_dir() else nullcontext():
        report = examine(arguments.seconds, graphs=load_canaries(runtime), thread_ns=find_thread_clock(runtime))
    if arguments.json:
        print(json.dumps(to_wire(report), indent=2))
    else:
        print("\n".join(report_lines(report)))
    return 1 if report.verdict == "poor" else 0
