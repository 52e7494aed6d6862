"""The command line of the server: serves latency tables, looks after devices and tokens."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from lut_server.commands import fleet, jobs, operations, pair, serve, table, token, transfer, web_runtime
from shared.command_line import Parser, make_parser, run_program

ABOUT = """Serve latency tables, and look after devices, tokens, jobs and the database.

    lut-server serve --host 0.0.0.0 --port 8700
"""


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return run_program("lut-server", parser, argv, environment)


def parser() -> Parser:
    """The parser of all commands."""
    made, commands = make_parser("lut-server", ABOUT)
    for command in (serve, token, pair, fleet, table, transfer, jobs, operations, web_runtime):
        command.add(commands)
    return made


if __name__ == "__main__":
    sys.exit(main())
