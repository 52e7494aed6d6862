"""What `profile` says at its end of the table that came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.errors import LutnasError

if TYPE_CHECKING:
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
