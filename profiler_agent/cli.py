"""The command line of the profiler agent."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from profiler_agent.commands import adb, check, compare, doctor, enrol, predict, probe, profile, upload, work
from shared.command_line import Parser, make_parser, run_program

ABOUT = """Measure how long neural-network ops and networks take on this device.

    profiler-agent profile --device rpi4 --space nas-bench-201 --lut-url http://server:8700
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return run_program("profiler-agent", parser, argv)


def parser() -> Parser:
    """The parser of all commands."""
    made, commands = make_parser("profiler-agent", ABOUT)
    for command in (probe, doctor, profile, check, work, upload, enrol, adb, predict, compare):
        command.add(commands)
    return made


if __name__ == "__main__":
    sys.exit(main())
