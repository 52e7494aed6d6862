"""`profiler-agent compare RUN RUN`: what changed between two runs, and whether it is too much."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler_agent.commands.server import add_access, open_client
from shared.errors import WrongUse
from shared.wire import to_wire

if TYPE_CHECKING:
    from profiler_agent.compare_runs import MeasuredRun
    from profiler_agent.server.server_client import ServerClient

SLOWER = 3
"""Exit code where whole networks got slower beyond the threshold."""


def add_compare(commands: Any) -> None:
    """Add the command to the parser's commands."""
    compare = commands.add_parser("compare", help="say which ops and networks changed between two runs")
    compare.add_argument(
        "before", metavar="RUN", help="a file of `profile --offline`, or the id of a run on the server"
    )
    compare.add_argument("after", metavar="RUN", help="the run to hold against it")
    compare.add_argument("--server", metavar="URL", help="the lut-server that has the runs, where they are no files")
    add_access(compare, "where reading needs one")
    compare.add_argument(
        "--threshold", type=_threshold, metavar="F", help="exit with 3 if whole networks take more than F times as long"
    )
    compare.add_argument("--raw", action="store_true", help="compare ms by the clock, not ratios to the canary")
    compare.add_argument("--all", action="store_true", help="list what is the same, too")
    compare.add_argument("--json", action="store_true", help="as one JSON object")
    compare.set_defaults(command=run_compare, stateless=True)


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare two runs; 3 if whole networks got slower beyond the threshold."""
    from profiler_agent.compare_runs import compare, comparison_lines, is_slower

    with ExitStack() as stack:
        client = _client(arguments, stack)
        before, after = (_read(name, client) for name in (arguments.before, arguments.after))
    found = compare(before, after, arguments.raw)
    slower = None if arguments.threshold is None else is_slower(found, arguments.threshold)
    if arguments.json:
        print(json.dumps({**to_wire(found), "threshold": arguments.threshold, "too_slow": slower}, indent=2))
    else:
        print("\n".join(comparison_lines(found, arguments.all)))
        if slower is not None:
            print(f"threshold  {arguments.threshold:g}: {'exceeded' if slower else 'kept'}")
    return SLOWER if slower else 0


def _client(arguments: argparse.Namespace, stack: ExitStack) -> ServerClient | None:
    if not arguments.server:
        return None
    return stack.enter_context(open_client(arguments))


def _read(name: str, client: ServerClient | None) -> MeasuredRun:
    from profiler_agent.compare_runs import MeasuredRun
    from profiler_agent.spool.run_file import read_run_file

    path = Path(name)
    if path.is_file():
        recorded = read_run_file(path)
        return MeasuredRun(recorded.run, recorded.measurements)
    if client is None:
        raise WrongUse(f"there is no file {name}; if it is the id of a run, pass --server too")
    return MeasuredRun(client.fetch_run(name), client.fetch_measurements(name))


def _threshold(text: str) -> float:
    value = float(text)
    if not 1 <= value < 1000:
        raise argparse.ArgumentTypeError(f"{text} is not a factor from 1 up, for example 1.05")
    return value
