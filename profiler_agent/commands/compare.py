"""Say which ops and networks changed between two runs, and whether it is too much.

profiler-agent compare before.json after.json --threshold 1.05
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from profiler_agent.commands.options import open_client
from shared.command_line import Commands, Parser, add_command, add_server, within
from shared.errors import WrongUse
from shared.wire import to_wire

if TYPE_CHECKING:
    from profiler_agent.compare_runs import MeasuredRun
    from profiler_agent.server.server_client import ServerClient

SLOWER = 3
"""Exit code where whole networks got slower beyond the threshold."""


def add(commands: Commands[Parser]) -> None:
    compare = add_command(commands, "compare", run, __doc__)
    compare.add_argument(
        "before", metavar="RUN", help="a file of `profile --offline`, or the id of a run on the server"
    )
    compare.add_argument("after", metavar="RUN", help="the run to hold against it")
    add_server(compare, "agent", required=False)
    compare.add_argument(
        "--threshold", type=within(1, 1000), metavar="F", help="exit with 3 if networks take more than F times as long"
    )
    compare.add_argument("--raw", action="store_true", help="compare ms by the clock, not ratios to the canary")
    compare.add_argument("--all", action="store_true", help="list what is the same, too")
    compare.add_argument("--json", action="store_true", help="as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Compare two runs; 3 if whole networks got slower beyond the threshold."""
    from profiler_agent.compare_runs import compare, comparison_lines, is_slower

    with open_client(arguments) if arguments.lut_url else nullcontext() as client:
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


def _read(name: str, client: ServerClient | None) -> MeasuredRun:
    from profiler_agent.compare_runs import MeasuredRun
    from profiler_agent.spool.run_file import read_run_file

    path = Path(name)
    if path.is_file():
        recorded = read_run_file(path)
        return MeasuredRun(recorded.run, recorded.measurements)
    if client is None:
        raise WrongUse(f"there is no file {name}; if it is the id of a run, pass --lut-url too")
    return MeasuredRun(client.fetch_run(name), client.fetch_measurements(name))
