"""Make this device's latency tables.

    profiler-agent profile --device rpi4 --space nas-bench-201 --lut-url http://server:8700

Stopped anywhere, the same command goes on: each round is on disk before the next begins.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from profiler_agent.commands.options import add_plan, make_progress, open_client, open_spool, say, wanted_profile
from profiler_agent.commands.table_output import exit_code, report_tables
from profiler_agent.host.throttle_sensor import find_watch_file
from profiler_agent.timing.stopping import BOUND_PERCENT
from shared.command_line import Commands, Parser, add_command, add_server, within
from shared.errors import InvalidValue

if TYPE_CHECKING:
    from profiler_agent.profile.profile import ProfileRequest
    from profiler_agent.progress import Progress
    from profiler_agent.spool.spool import Spool

NOBODY = "http://127.0.0.1:9"


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "profile", run, __doc__)
    add_server(parser, "agent", required=False)
    advanced = add_plan(parser)
    offline = parser.add_argument_group("without a server")
    offline.add_argument("--offline", action="store_true", help="measure without one: needs --out, and onnx")
    offline.add_argument(
        "--out", type=Path, metavar="FILE", help="with --offline, where to write the run; a folder for several runs"
    )
    offline.add_argument(
        "--spooled", action="store_true", help="measure with the plan and graphs that are in the spool, ask no server"
    )
    advanced.add_argument(
        "--bound-percent",
        type=within(0, 1000),
        default=BOUND_PERCENT,
        metavar="P",
        help="choose networks on the way, enough of them once the 95 %% bound is P %% wide; "
        f"0: all of --calibration ({BOUND_PERCENT:g})",
    )
    advanced.add_argument(
        "--force", action="store_true", help="ask for the table even if some graphs could not be measured"
    )
    advanced.add_argument(
        "--memory-mb",
        type=within(0, kind=int),
        default=0,
        metavar="MB",
        help="for graphs that stay open between their rounds, which saves time (0: none does)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, with a server or without."""
    request, progress, most_bytes = wanted_profile(arguments), make_progress(), arguments.memory_mb * 1_000_000
    _check(arguments)
    if arguments.spooled:
        return _profile_spooled(request, open_spool(arguments), progress, most_bytes)
    if arguments.offline:
        return _profile_offline(request, open_spool(arguments), arguments.out, progress, most_bytes)

    from profiler_agent.profile.profile import Profiler
    from profiler_agent.profile.status_report import StatusBoard, reporting

    board = StatusBoard()
    with open_client(arguments) as client:
        profiler = Profiler(client, open_spool(arguments), progress, most_bytes=most_bytes, board=board)
        with reporting(client, arguments.device, board):
            outcomes = profiler.profile(request)
        return report_tables(outcomes, client, arguments.device, say)


def _check(arguments: argparse.Namespace) -> None:
    """Raise InvalidValue where flags do not go together."""
    if arguments.spooled and (arguments.lut_url is not None or arguments.offline):
        raise InvalidValue("--spooled", "asks no server and makes no file: leave --lut-url and --offline away")
    if arguments.offline and arguments.out is None:
        raise InvalidValue("--out", "is needed with --offline: the file to write, for example run.json")
    if arguments.offline and arguments.lut_url:
        raise InvalidValue("--lut-url", "and --offline exclude each other")
    if arguments.out is not None and not arguments.offline:
        raise InvalidValue("--out", "is for --offline alone: with a server, the run goes there")
    if not (arguments.lut_url or arguments.offline or arguments.spooled):
        raise InvalidValue("--lut-url", "is needed: the lut-server's URL; or --offline --out FILE to do without")


def _profile_offline(request: ProfileRequest, spool: Spool, out: Path, progress: Progress, most_bytes: int) -> int:
    """Write runs to files; 1 if not everything could be measured."""
    from profiler_agent.profile.offline import profile_offline, run_files

    outcomes = profile_offline(request, spool, out, progress, most_bytes)
    files = run_files(request.spaces, out)
    for outcome in outcomes:
        if outcome.problem is not None:
            print(f"profiler-agent: {outcome.problem}", file=sys.stderr)
            continue
        if not outcome.measured:
            print(
                "the file holds this run already (same device, plan, runtime and agent version); --new measures again"
            )
        print(f"run        {outcome.run_id}")
        if len(files) > 1:
            print(f"space      {outcome.space}")
        print(f"file       {files[outcome.space]}")
        for doubt in outcome.doubts:
            print(f"unstable   {doubt}")
        for problem in outcome.refused:
            progress.say(f"could not be measured: {problem}")
    handed_in = " ".join(str(files[outcome.space]) for outcome in outcomes if outcome.problem is None)
    if handed_in:
        print(f"upload     profiler-agent upload {handed_in} --lut-url URL")
    return exit_code([outcome for outcome in outcomes if outcome.measured])


def _profile_spooled(request: ProfileRequest, spool: Spool, progress: Progress, most_bytes: int) -> int:
    """Plan and graphs are in the spool, put there by another program, which takes the results too.

    Measures what is missing and leaves it in the spool; 1 if a graph could not be measured.
    """
    from profiler_agent.profile.profile import Profiler
    from profiler_agent.server.server_client import ServerClient

    watch = find_watch_file(say=progress.say)
    with ServerClient(NOBODY) as client:
        profiler = Profiler(client, spool, progress, most_bytes=most_bytes, asks_server=False)
        if watch is not None:
            profiler.check = watch.wait
        outcomes = profiler.profile(request)
    for outcome in outcomes:
        print(f"run        {outcome.run_id}, spooled in {spool.folder}")
        for doubt in outcome.doubts:
            print(f"unstable   {doubt}")
        for problem in outcome.refused:
            progress.say(f"could not be measured: {problem}")
    return exit_code([outcome for outcome in outcomes if outcome.refused])
