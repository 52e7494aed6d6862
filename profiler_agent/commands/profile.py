"""Make this device's latency tables.

    profiler-agent profile --device rpi4 --space nas-bench-201 --lut-url http://server:8700

Stopped anywhere, the same command goes on: each round is on disk before the next begins.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler_agent.commands.options import add_plan, make_progress, open_client, open_spool, say, wanted_profile
from profiler_agent.host.throttle_sensor import find_throttle_sensor
from profiler_agent.timing.stopping import BOUND_PERCENT
from shared.command_line import Commands, Parser, add_command, add_server, within
from shared.errors import InvalidValue, LutnasError

if TYPE_CHECKING:
    from profiler_agent.profile.profile import Outcome, ProfileRequest
    from profiler_agent.server.server_client import ServerClient
    from profiler_agent.spool.spool import Spool

MOST_PRICES = 30
"""Rows on the terminal; `lut-server table show` lists all."""


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
    request, most_bytes = wanted_profile(arguments), arguments.memory_mb * 1_000_000
    _check(arguments)
    spool = open_spool(arguments)
    if arguments.spooled:
        return _profile_spooled(request, spool, most_bytes)
    if arguments.offline:
        return _profile_offline(request, spool, arguments.out, most_bytes)

    from profiler_agent.profile.profile import Profiler
    from profiler_agent.profile.status_report import StatusBoard, reporting

    board = StatusBoard()
    with open_client(arguments) as client:
        profiler = Profiler(client, spool, make_progress(), most_bytes=most_bytes, board=board)
        with reporting(client, arguments.device, board):
            outcomes = profiler.profile(request)
        return _report_tables(outcomes, client, arguments.device)


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


def _profile_offline(request: ProfileRequest, spool: Spool, out: Path, most_bytes: int) -> int:
    """Write runs to files; 1 if something could not be measured."""
    from profiler_agent.profile.offline import profile_offline, run_files

    outcomes = profile_offline(request, spool, out, make_progress(), most_bytes)
    files = run_files(request.spaces, out)
    for outcome in outcomes:
        if outcome.problem is not None:
            say(f"profiler-agent: {outcome.problem}")
            continue
        if not outcome.measured:
            print(
                "the file holds this run already (same device, plan, runtime and agent version); --new measures again"
            )
        print(f"run        {outcome.run_id}")
        if len(files) > 1:
            print(f"space      {outcome.space}")
        print(f"file       {files[outcome.space]}")
        _report_problems(outcome)
    handed_in = shlex.join(str(files[outcome.space]) for outcome in outcomes if outcome.problem is None)
    if handed_in:
        print(f"upload     profiler-agent upload {handed_in} --lut-url URL")
    return _exit_code([outcome for outcome in outcomes if outcome.measured])


def _profile_spooled(request: ProfileRequest, spool: Spool, most_bytes: int) -> int:
    """Measure what is missing into the spool; 1 if a graph could not be measured.

    Another program put plan and graphs there, and takes the results.
    """
    from profiler_agent.profile.profile import NOBODY, Profiler
    from profiler_agent.server.server_client import ServerClient

    progress = make_progress()
    sensor = find_throttle_sensor(say=progress.say)
    with ServerClient(NOBODY) as client:
        profiler = Profiler(client, spool, progress, most_bytes=most_bytes, asks_server=False)
        if sensor is not None:
            profiler.check = sensor.wait
        outcomes = profiler.profile(request)
    for outcome in outcomes:
        print(f"run        {outcome.run_id}, spooled in {spool.folder}")
        _report_problems(outcome)
    return _exit_code([outcome for outcome in outcomes if outcome.refused])


def _report_problems(outcome: Outcome) -> None:
    for doubt in outcome.doubts:
        print(f"unstable   {doubt}")
    for problem in outcome.refused:
        say(f"could not be measured: {problem}")


def _report_tables(outcomes: Sequence[Outcome], client: ServerClient, device: str) -> int:
    """Print what became of each run; returns the exit code."""
    for index, outcome in enumerate(outcomes):
        if len(outcomes) > 1:
            print(f"{'' if index == 0 else chr(10)}space      {outcome.space}")
        if outcome.table is not None:
            if not outcome.measured:
                print("the server has this table already (same plan, runtime and agent version); --new measures again")
            _print_table(outcome.table, client, device, outcome.space)
        for doubt in outcome.doubts:
            print(f"unstable   {doubt}")
        of_space = f" of {outcome.space}" if len(outcomes) > 1 else ""
        if outcome.refused:
            say(f"{len(outcome.refused)} graphs{of_space} could not be measured:")
            for problem in outcome.refused:
                say(f"  {problem}")
            if outcome.table is None and outcome.problem is None:
                say("the measurements are uploaded, but without all of them the server makes no table")
    for problem in dict.fromkeys(str(outcome.problem) for outcome in outcomes if outcome.problem is not None):
        say(f"profiler-agent: {problem}")
    return _exit_code(outcomes)


def _print_table(summary: Mapping[str, Any], client: ServerClient, device: str, space: str) -> None:
    """The table's hash, the error of each way to predict, and its prices with what was measured."""
    from shared.tables.table_text import describe_errors, describe_prices

    print(f"table      {summary['hash']}")
    nominal_ms = summary.get("canary_nominal_ms")
    if isinstance(nominal_ms, (int, float)):
        print(f"canary     {nominal_ms:.4g} ms nominal")
    print(f"at         {client.url}/v1/devices/{device}/table?space={space}")
    try:
        table = client.fetch_table(str(summary["hash"]))
    except LutnasError:
        return  # the table is made: a server that does not show it spoils nothing
    for part in filter(None, (describe_errors(table), describe_prices(table, MOST_PRICES))):
        print(f"\n{part}")


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 if each run made its table."""
    problems = [outcome.problem.exit_code for outcome in outcomes if outcome.problem is not None]
    incomplete = any(outcome.refused or outcome.table is None for outcome in outcomes)
    return max([*problems, int(incomplete)])
