"""`profile --spooled`: plan and graphs are in the spool, put there by another program, which takes the results too."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from profiler_agent.commands.profile import exit_code
from profiler_agent.host.throttle_sensor import find_watch_file
from shared.errors import InvalidValue

if TYPE_CHECKING:
    from profiler_agent.profile.profile import ProfileRequest
    from profiler_agent.progress import Progress
    from profiler_agent.spool.spool import Spool

NOBODY = "http://127.0.0.1:9"


def add_spooled(profile: argparse.ArgumentParser) -> None:
    """Add the flag of `profile`."""
    profile.add_argument(
        "--spooled", action="store_true", help="measure with the plan and graphs that are in the spool, ask no server"
    )


def check_spooled(arguments: argparse.Namespace) -> None:
    """Whether the flags go together.

    Raises:
        InvalidValue: they do not.
    """
    if arguments.server is not None or arguments.offline:
        raise InvalidValue("--spooled", "asks no server and makes no file: leave --server and --offline away")


def run_profile_spooled(request: ProfileRequest, spool: Spool, progress: Progress, most_bytes: int) -> int:
    """Measure what is missing and leave it in the spool; 1 if a graph could not be measured."""
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
