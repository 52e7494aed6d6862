"""See whether this device's table still holds: time some of its networks again.

profiler-agent check --device rpi4 --lut-url http://server:8700
"""

from __future__ import annotations

import argparse

from profiler_agent.commands.options import add_device, add_spool, make_progress, open_client, open_spool, say
from shared.command_line import Commands, Parser, add_command, add_server
from shared.errors import LutnasError


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "check", run, __doc__)
    add_device(parser, "whose table to check")
    parser.add_argument("--space", default="", metavar="SPACE", help="of the table (default: the newest)")
    add_server(parser, "agent")
    add_spool(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what changed, and tell the server; 1 if the table no longer holds."""
    from profiler_agent.profile.check_table import check_table
    from profiler_agent.profile.status_report import StatusBoard

    with open_client(arguments) as client:
        table = client.get_table(arguments.device, arguments.space)
        make_progress().say(f"timing networks of table {table.hash[:12]} again")
        found = check_table(client, open_spool(arguments), table)
        board = StatusBoard()
        board.sample()
        board.note_check(found)
        print(found.describe(), flush=True)
        try:
            client.report_status(arguments.device, board.status)
        except LutnasError as error:
            say(f"the server was not told: {error}")
    return 0 if found.holds else 1
