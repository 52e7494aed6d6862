"""The spaces and resolutions of `profile`, and what it says of the table of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from profiler_agent.commands.table_output import find_whole_table, print_table
from shared.errors import InvalidValue
from shared.spaces import make_space

if TYPE_CHECKING:
    from profiler_agent.profile.profile import Outcome
    from profiler_agent.server.server_client import ServerClient
    from shared.spaces import Space


def add_spaces(profile: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the flags that name spaces."""
    profile.add_argument(
        "--space", required=required, nargs="+", metavar="NAME", help="search spaces, for example nas-bench-201 darts"
    )
    profile.add_argument(
        "--resolution",
        type=int,
        nargs="+",
        metavar="N",
        help="heights and widths of the input image, pixels; each space at each (default: the space's own)",
    )


def add_sizes(profile: argparse.ArgumentParser) -> None:
    """Add the flags of a space's skeleton."""
    for flags, text in (
        (("--channels",), "channels of the first stage"),
        (("--depth", "--cells-per-stage"), "cells per stage (nas-bench-201), cells (darts), layers per stage (fbnet)"),
        (("--classes",), "classes of the classifier"),
        (("--image-channels",), "channels of the input image"),
    ):
        profile.add_argument(*flags, type=int, metavar="N", help=f"{text} (default: the space's own)")


def wanted_spaces(arguments: argparse.Namespace) -> tuple[Space, ...]:
    """Every named space at every resolution, each once.

    Raises:
        UnknownName: no space has that name.
        InvalidValue: a parameter is outside its domain; where there are several spaces, the space is named.
    """
    several = len(arguments.space) > 1
    spaces: dict[Space, None] = {}
    for name in arguments.space:
        for resolution in arguments.resolution or [None]:
            try:
                space = make_space(
                    name,
                    resolution=resolution,
                    channels=arguments.channels,
                    depth=arguments.depth,
                    classes=arguments.classes,
                    image_channels=arguments.image_channels,
                )
            except InvalidValue as error:
                raise InvalidValue(error.field, error.problem + (f" (space {name})" if several else "")) from error
            spaces[space] = None
    return tuple(spaces)


def report_tables(outcomes: Sequence[Outcome], client: ServerClient, device: str, say: Callable[[str], None]) -> int:
    """Print what became of each run; returns the exit code.

    Args:
        outcomes: of the runs.
        client: of the server that has the tables.
        device: that was measured.
        say: takes lines that are not results.
    """
    for index, outcome in enumerate(outcomes):
        if len(outcomes) > 1:
            print(f"{'' if index == 0 else chr(10)}space      {outcome.space}")
        if outcome.table is not None:
            if not outcome.measured:
                print("the server has this table already (same plan, runtime and agent version); --new measures again")
            print_table(outcome.table, find_whole_table(client, outcome.table), client.url, device, outcome.space)
        for doubt in outcome.doubts:
            print(f"unstable   {doubt}")
        of_space = f" of {outcome.space}" if len(outcomes) > 1 else ""
        if outcome.refused:
            say(f"{len(outcome.refused)} graphs{of_space} could not be measured:")
            for problem in outcome.refused:
                say(f"  {problem}")
            if outcome.table is None and outcome.problem is None:
                say("the measurements are uploaded, but without all of them the server makes no table")
    problems = dict.fromkeys(str(outcome.problem) for outcome in outcomes if outcome.problem is not None)
    for problem in problems:
        say(f"profiler-agent: {problem}")
    return exit_code(outcomes)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 if each run made its table."""
    problems = [outcome.problem.exit_code for outcome in outcomes if outcome.problem is not None]
    incomplete = any(outcome.refused or outcome.table is None for outcome in outcomes)
    return max([*problems, int(incomplete)])
