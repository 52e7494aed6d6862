"""`profiler-agent enrol`: makes this device known to a server and, with --space, asks for its tables.

What is asked for is queued at the server like any other job, so that whichever `profiler-agent work` serves the device
makes the tables, now or when it comes up. Nothing is queued twice, and nothing that the server has already.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from profiler_agent.commands.profile import add_sizes, add_spaces, wanted_spaces
from profiler_agent.commands.runtime import add_optimisation, add_precision, add_provider
from profiler_agent.commands.server import add_access, open_client
from shared.jobs import OVER, NewJob
from shared.measurements.graph_spec import CanaryGraph

if TYPE_CHECKING:
    from profiler_agent.server.server_client import ServerClient
    from shared.runtime import Runtime
    from shared.spaces import Space


def add_enrol(commands: Any) -> None:
    """Add the command to the parser's commands."""
    enrol = commands.add_parser("enrol", help="make this device known to a server, and ask for its tables")
    enrol.add_argument("--server", required=True, metavar="URL", help="the lut-server, for example http://host:8000")
    add_access(enrol)
    enrol.add_argument("--device", required=True, metavar="NAME", help="this device's name")
    add_spaces(enrol, required=False)
    add_sizes(enrol)
    enrol.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one inference (1)")
    enrol.add_argument("--batch", type=int, default=1, metavar="N", help="images per inference (1)")
    add_precision(enrol, "of weights and activations")
    add_provider(enrol)
    add_optimisation(enrol)
    enrol.set_defaults(command=run_enrol, stateless=True)


def run_enrol(arguments: argparse.Namespace) -> int:
    """`enrol`: register, and queue a profile of each space."""
    from profiler_agent.host.probe import probe
    from profiler_agent.ort.sessions import local_runtime
    from shared.measurements.measurement import check_device_name

    check_device_name(arguments.device)
    spaces = wanted_spaces(arguments) if arguments.space else ()
    runtime = local_runtime(
        arguments.threads, arguments.batch, arguments.provider, arguments.optimisation, arguments.precision
    )
    with open_client(arguments) as client:
        client.register_device(arguments.device, probe())
        _say(f"{arguments.device} is registered at {client.url}")
        queue_profiles(client, arguments.device, spaces, runtime, _say)
    return 0


def queue_profiles(
    client: ServerClient, device: str, spaces: Iterable[Space], runtime: Runtime, say: Callable[[str], None]
) -> None:
    """Queue a profile of every space that the device has no table of, and no job for.

    Raises:
        LutnasError: the server is away or refuses.
    """
    waiting = [job.job for job in client.list_jobs(device) if job.state not in OVER and job.job.kind == "profile"]
    known = {(job.space, _apart_from_version(job.runtime)) for job in waiting}
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
