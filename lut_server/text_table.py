"""Rows as plain text and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from shared.table import LatencyTable

PRICE_COLUMNS = (
    "op_key",
    "price_ms",
    "sd_ms",
    "marginal_ms",
    "marginal_low_ms",
    "marginal_high_ms",
    "stable",
)


def align(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, two spaces apart."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
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
    error = table.held_out
    if error is not None:
        lines.append(
            f"held out {error.networks} networks: mean error {error.mape_percent:.2f} %, within 10 % "
            f"{error.within_10_percent:.1f} %, Kendall tau {error.kendall_tau:.3f}, 95 % bound holds for "
            f"{error.bound_coverage:.1f} % and is {error.bound_half_width_percent:.1f} % wide"
        )
    prices = [
        (
            one.op_key,
            f"{one.price_ms:.5f}",
            f"{one.sd_ms:.5f}",
            f"{one.marginal_ms:.5f}",
            *_verdict(one.stable, one.reasons),
        )
        for one in table.prices
    ]
    return "\n".join(lines) + "\n\n" + align(("op key", "price ms", "sd ms", "marginal ms", "stable"), prices)


def prices_csv(table: LatencyTable) -> str:
    """Base and prices as CSV, the base as a row of its own."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PRICE_COLUMNS)
    writer.writerow(("base", table.base_ms, table.covariance[0][0] ** 0.5, "", "", "", ""))
    for price in table.prices:
        writer.writerow([getattr(price, column) for column in PRICE_COLUMNS])
    return text.getvalue()


def _verdict(stable: bool, reasons: Sequence[str]) -> tuple[str]:
    return ("yes" if stable else f"no: {'; '.join(reasons)}",)
