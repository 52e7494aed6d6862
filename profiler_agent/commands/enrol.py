"""Make this device known to a server and, with --space, ask for its tables.

    profiler-agent enrol --device rpi4 --space nas-bench-201 --lut-url http://server:8700

The tables are queued as jobs at the server. `profiler-agent work` makes them, now or later. Nothing
is queued twice, or if the server has its table.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from profiler_agent.commands.options import (
    add_device,
    add_runtime,
    add_sizes,
    add_spaces,
    open_client,
    say,
    wanted_runtime,
    wanted_spaces,
)
from shared.command_line import Commands, Parser, add_command, add_server
from shared.jobs import JOB_STATES, OVER, NewJob
from shared.measurements.graph_spec import CanaryGraph

if TYPE_CHECKING:
    from profiler_agent.server.server_client import ServerClient
    from shared.runtime import Runtime
    from shared.spaces import Space


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "enrol", run, __doc__)
    add_device(parser)
    add_spaces(parser, required=False)
    add_server(parser, "agent")
    add_runtime(parser.add_argument_group("runtime"))
    add_sizes(parser.add_argument_group("advanced"))


def run(arguments: argparse.Namespace) -> None:
    """Register, and queue a profile of each space."""
    from profiler_agent.host.probe import probe
    from shared.runtime import check_device_name

    check_device_name(arguments.device)
    spaces = wanted_spaces(arguments) if arguments.space else ()
    runtime = wanted_runtime(arguments)
    with open_client(arguments) as client:
        client.register_device(arguments.device, probe())
        say(f"{arguments.device} is registered at {client.url}")
        queue_profiles(client, arguments.device, spaces, runtime, say)


def queue_profiles(
    client: ServerClient, device: str, spaces: Iterable[Space], runtime: Runtime, say: Callable[[str], None]
) -> None:
    """Queue a profile of every space without a table of the device, and without a job.

    Raises:
        LutnasError: the server is away or refuses.
    """
    waiting = [job.job for state in JOB_STATES if state not in OVER for job in client.list_jobs(device, state)]
    known = {(job.space, _apart_from_version(job.runtime)) for job in waiting if job.kind == "profile"}
    for space in spaces:
        if client.find_table(device, str(space), runtime) is not None:
            say(f"{space}: the server has its table already")
        elif (str(space), _apart_from_version(runtime)) in known:
            say(f"{space}: its profile is queued already")
        else:
            job = client.queue_job(NewJob(device, "profile", runtime, str(CanaryGraph()), str(space)))
            say(f"{space}: its profile is queued as job {job.id}")


def _apart_from_version(runtime: Runtime) -> Runtime:
    return dataclasses.replace(runtime, version="any")
