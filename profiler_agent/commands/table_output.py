"""What `profile` says at its end of the tables that came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import LutnasError

if TYPE_CHECKING:
    from profiler_agent.profile.profile import Outcome
    from profiler_agent.server.server_client import ServerClient
    from shared.tables.table import LatencyTable

MOST_PRICES = 30
"""Rows on the terminal; `lut-server table show` lists all."""


def find_whole_table(client: ServerClient, summary: Mapping[str, Any]) -> LatencyTable | None:
    """The table that a summary speaks of; None where the server does not give it, which spoils nothing."""
    try:
        return client.fetch_table(str(summary["hash"]))
    except LutnasError:
        return None


def print_table(summary: Mapping[str, Any], table: LatencyTable | None, url: str, device: str, space: str) -> None:
    """The table's hash, the error of each way to predict, and its prices beside what was measured."""
    from shared.tables.table_text import describe_errors, describe_prices

    print(f"table      {summary['hash']}")
    nominal_ms = summary.get("canary_nominal_ms")
    if isinstance(nominal_ms, (int, float)):
        print(f"canary     {nominal_ms:.4g} ms nominal")
    print(f"at         {url}/v1/devices/{device}/table?space={space}")
    if table is not None:
        for part in (describe_errors(table), describe_prices(table, MOST_PRICES)):
            print(f"\n{part}" if part else "", end="\n" if part else "")


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
