"""A latency table as text: errors of its predictors, prices beside measured costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from shared.errors import in_one_line
from shared.tables.held_out_error import BaselineError, HeldOutError
from shared.tables.table import LatencyTable

_UNFITTED: Mapping[str, str] = MappingProxyType(
    {"marginal": "sum of marginal costs", "isolated": "sum of isolated timings"}
)


def align(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, two spaces apart."""
    lines = [list(header), *([in_one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def describe_errors(table: LatencyTable) -> str:
    """Each predictor's held-out error, the best first, and the settle check; "" without any error."""
    baselines = table.baselines or ()
    errors: list[tuple[str, HeldOutError | BaselineError | None]] = [
        ("kernel prices", table.kernels.held_out if table.kernels else None),
        ("op prices", table.held_out),
        *((_UNFITTED.get(baseline.costs, baseline.costs), baseline) for baseline in baselines),
    ]
    rows = [(name, *_shares(error)) for name, error in errors if error]
    if not rows:
        return ""
    networks = next(error.networks for _, error in errors if error)
    header = ("mean error", "within 5 %", "within 10 %", "tau", "below 95 % bound", "half-width")
    lines = align((f"on {networks} held-out networks", *header), rows)
    bases = ", ".join(f"{baseline.base_ms:.4g} ms ({baseline.costs})" for baseline in baselines)
    if (settled := table.settled) is not None:
        lines += (
            f"\nsettle check: {settled.networks} networks once more, {100 * settled.shift:+.1f} % beside the canary,"
        )
        lines += f" spread {100 * settled.spread:.1f} %" + (f"; {settled.doubt}" if settled.doubt else "")
    return lines + (f"\nsums start at the fastest calibration network's time beyond its ops: {bases}" if bases else "")


def describe_prices(table: LatencyTable, most: int | None = None) -> str:
    """Op prices beside marginal costs and isolated timings; only the first `most` if given."""
    alone = any(price.isolated_ms is not None for price in table.prices)
    rows = [
        (
            price.op_key,
            f"{price.price_ms:.5f}",
            f"{price.sd_ms:.5f}",
            f"{price.marginal_ms:.5f}",
            *(["" if price.isolated_ms is None else f"{price.isolated_ms:.5f}"] if alone else []),
            "yes" if price.stable else f"no: {'; '.join(price.reasons)}",
        )
        for price in table.prices[:most]
    ]
    header = ("op key", "price ms", "sd ms", "marginal ms", *(["isolated ms"] if alone else []), "stable")
    left = len(table.prices) - len(rows)
    return align(header, rows) + (f"\nand {left} more" if left else "")


def _shares(error: HeldOutError | BaselineError) -> tuple[str, ...]:
    bound = ("", "")
    if isinstance(error, HeldOutError):
        bound = (f"{error.bound_coverage:.1f} %", f"{error.bound_half_width_percent:.1f} %")
    return (
        f"{error.mape_percent:.2f} %",
        f"{error.within_5_percent:.1f} %",
        f"{error.within_10_percent:.1f} %",
        f"{error.kendall_tau:.3f}",
        *bound,
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
