"""Do the server's jobs for this device, until it is stopped.

profiler-agent work --device rpi4 --lut-url http://server:8700 --token-file token
"""

from __future__ import annotations

import argparse

from profiler_agent.commands.options import (
    add_device,
    add_preset,
    add_provider,
    add_spool,
    make_progress,
    open_client,
    open_spool,
)
from profiler_agent.timing.stopping import PRESETS
from shared.command_line import Commands, Parser, add_command, add_server, within


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "work", run, __doc__)
    add_device(parser)
    add_server(parser, "agent")
    add_preset(parser)
    parser.add_argument("--once", action="store_true", help="do what is queued now, then exit")
    advanced = parser.add_argument_group("advanced")
    add_provider(advanced)
    seconds = within(0.001)
    advanced.add_argument("--poll-s", type=seconds, default=2.0, metavar="S", help="between questions for a job (2)")
    advanced.add_argument("--idle-exit-s", type=seconds, metavar="S", help="exit after this long without a job")
    add_spool(advanced)


def run(arguments: argparse.Namespace) -> None:
    """Lease, measure, hand in."""
    from profiler_agent.ort.sessions import local_runtime
    from profiler_agent.worker import Worker
    from shared.runtime import check_device_name

    check_device_name(arguments.device)
    local_runtime(provider=arguments.provider)  # said now, not when the first job fails
    spool, progress = open_spool(arguments), make_progress()
    with open_client(arguments) as client:
        worker = Worker(client, spool, progress, arguments.device, PRESETS[arguments.preset], arguments.poll_s)
        worker.run(arguments.once, arguments.idle_exit_s)
