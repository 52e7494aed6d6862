"""`search`: the command line. Without a subcommand it is the search itself.

search --device rpi4 --lut-url http://server:8700        (also spelt: search run ...)
search pick|train|export|verify|ladder|diagnose|report ...            what to do with a finished run
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from rich.console import Console

from shared import __version__
from shared.errors import LutnasError, UnknownName

COMMANDS = {
    "run": "search a family of networks for a device (the default)",
    "pick": "the member for a latency budget",
    "train": "train a member to the end",
    "export": "write a member as an ONNX file",
    "verify": "have the device measure a member",
    "ladder": "members for a series of budgets, exported and measured",
    "diagnose": "train members to the end and compare with the search's ranks",
    "report": "write the HTML report of a run",
    "compare": "strategies of the field side by side, with several seeds",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a failure, 2 for wrong use."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    errors = Console(stderr=True)
    if arguments == ["--version"]:
        print(f"search {__version__}")
        return 0
    try:
        return _run(arguments)
    except LutnasError as error:
        errors.print(f"search: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("search: interrupted", style="red", highlight=False)
        return 1


def _run(arguments: list[str]) -> int:
    name = "run"
    if arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
    if name not in COMMANDS:
        raise UnknownName("command", name, COMMANDS)
    # Only now: torch takes seconds to import, and not every command needs it.
    command = importlib.import_module(f"search.commands.{name}")
    parser = argparse.ArgumentParser(
        prog="search" if name == "run" else f"search {name}",
        description=command.__doc__,
        epilog=_other_commands() if name == "run" else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return int(command.run(parser.parse_args(arguments), Console()))


def _other_commands() -> str:
    lines = [f"  search {name:<8} {text}" for name, text in COMMANDS.items()]
    return "\n".join(["commands (each has its own --help):", *lines])


if __name__ == "__main__":
    sys.exit(main())
