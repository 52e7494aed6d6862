"""A latency table as plain text."""

from __future__ import annotations

from shared.tables.table import LatencyTable
from shared.tables.table_text import describe_errors, describe_prices

PRICE_COLUMNS = (
    "op_key",
    "price_ms",
    "sd_ms",
    "marginal_ms",
    "marginal_low_ms",
    "marginal_high_ms",
    "stable",
    "isolated_ms",
)


def describe(table: LatencyTable) -> str:
    """A latency table for people: what it is of, how good it is, its prices."""
    lines = [
        f"device   {table.device}",
        f"space    {table.space}",
        f"runtime  {table.runtime}",
        f"hash     {table.hash}",
        f"canary   {table.canary}, nominally {table.canary_nominal_ms:.4g} ms",
        f"base     {table.base_ms:.4g} ms, spread of single networks {100 * table.relative_spread:.2g} %",
    ]
    if table.source is not None:
        lines.insert(0, f"IMPORTED from {table.source}, SHA-256 {table.source.sha256[:12]}: not measured here")
        lines += [f"note     {note}" for note in table.source.notes]
    parts = ["\n".join(lines), describe_errors(table), describe_prices(table)]
    return "\n\n".join(part for part in parts if part)
