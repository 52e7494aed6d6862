"""Show what this device is: processor, clock, memory, ONNX Runtime.

profiler-agent probe
"""

from __future__ import annotations

import argparse
import json

from shared.command_line import Commands, Parser, add_command


def add(commands: Commands[Parser]) -> None:
    add_command(commands, "probe", run, __doc__).add_argument("--json", action="store_true", help="as one JSON object")


def run(arguments: argparse.Namespace) -> None:
    """Look and print."""
    from profiler_agent.host.probe import probe

    found = probe()
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:15s} {value}")
