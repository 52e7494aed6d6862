"""`search`: the command line. Without a command it is the search itself: `search run`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Sequence

from shared.command_line import Parser, make_parser, run_program

ABOUT = """Search networks for a device and a latency budget, then pick, train, export and measure them.

    search --device rpi4 --lut-url http://server:8700

That is `search run`; `search run --help` lists its options. It makes a folder for the run. The
other commands work with that folder.
"""
USAGE = """search --device NAME --lut-url URL [option ...]
       search COMMAND [option ...]"""
COMMANDS = {
    "run": "Search a family of networks for a device, or for each of several (the default)",
    "pick": "Say which network of a finished search is the best for a latency budget",
    "choose": "Say which of several searches has the best network for a budget",
    "train": "Train a network to the end: the best for a budget, or a named one",
    "export": "Write a network as an ONNX file: the best for a budget, a named one, or a trained one",
    "verify": "Have the device measure a network, and say whether it meets its budget",
    "ladder": "Pick, tune, export and measure networks for a series of budgets",
    "space": "Say which networks the choices of your own model make, and have a device make their table",
    "report": "Write the report of a finished search: one HTML file that needs no network",
    "diagnose": "Say how well the search ranked: train members to the end and compare",
    "compare": "Compare strategies on a device, each with several seeds",
}
OF_ALL = ("-h", "--help", "--version", "--print-completion")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0].startswith("-") and words[0].partition("=")[0] not in OF_ALL):
        words.insert(0, "run")
    complete = words[0].startswith("--print-completion")
    return run_program("search", lambda: parser(COMMANDS if complete else words[:1], complete), words)


def parser(imported: Collection[str] = COMMANDS, with_run: bool = False) -> Parser:
    """The parser of all commands.

    Args:
        imported: commands that get their options; the others get their names alone, since torch
            takes seconds to import.
        with_run: add the options of `run` to `search` itself, for shell completion.
    """
    made, commands = make_parser("search", ABOUT, USAGE)
    for name, text in COMMANDS.items():
        if name in imported:
            importlib.import_module(f"search.commands.{name}").add(commands)
        else:
            commands.add_parser(name, help=text)
    if with_run:
        importlib.import_module("search.commands.run").add_arguments(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
