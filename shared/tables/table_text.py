"""A latency table for people, as lines: how far its predictors are off, and its prices beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from shared.tables.prediction import BaselineError, HeldOutError
from shared.tables.table import LatencyTable

_UNFITTED: Mapping[str, str] = MappingProxyType(
    {"marginal": "sum of marginal costs", "isolated": "sum of isolated timings"}
)


def align(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, two spaces apart."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def describe_errors(table: LatencyTable) -> str:
    """Each predictor's error on the held-out networks, the best first; "" for a table without any."""
    rows = []
    if table.kernels is not None and table.kernels.held_out is not None:
        rows.append(("kernel prices", *_shares(table.kernels.held_out), *_bound(table.kernels.held_out)))
    if table.held_out is not None:
        rows.append(("op prices", *_shares(table.held_out), *_bound(table.held_out)))
    rows += [
        (_UNFITTED.get(baseline.costs, baseline.costs), *_shares(baseline), "", "")
        for baseline in table.baselines or ()
    ]
    if not rows:
        return ""
    networks = (table.held_out or (table.kernels and table.kernels.held_out) or (table.baselines or ())[0]).networks
    header = ("mean error", "within 5 %", "within 10 %", "tau", "below 95 % bound", "half-width")
    lines = align((f"on {networks} held-out networks", *header), rows)
    bases = ", ".join(f"{baseline.base_ms:.4g} ms ({baseline.costs})" for baseline in table.baselines or ())
    stated = f"\nsums begin at what the fastest calibration network takes beyond its ops: {bases}" if bases else ""
    return lines + stated


def describe_prices(table: LatencyTable, most: int | None = None) -> str:
    """Op prices, marginal costs and isolated timings side by side; only the first `most` if given."""
    alone = any(price.isolated_ms is not None for price in table.prices)
    rows = [
        (
            price.op_key,
            f"{price.price_ms:.5f}",
            f"{price.sd_ms:.5f}",
            f"{price.marginal_ms:.5f}",
            *([_time(price.isolated_ms)] if alone else []),
            "yes" if price.stable else f"no: {'; '.join(price.reasons)}",
        )
        for price in table.prices[:most]
    ]
    header = ("op key", "price ms", "sd ms", "marginal ms", *(["isolated ms"] if alone else []), "stable")
    left = len(table.prices) - len(rows)
    return align(header, rows) + (f"\nand {left} more" if left else "")


def _shares(error: HeldOutError | BaselineError) -> tuple[str, ...]:
    return (
        f"{error.mape_percent:.2f} %",
        f"{error.within_5_percent:.1f} %",
        f"{error.within_10_percent:.1f} %",
        f"{error.kendall_tau:.3f}",
    )


def _bound(error: HeldOutError) -> tuple[str, str]:
    return f"{error.bound_coverage:.1f} %", f"{error.bound_half_width_percent:.1f} %"


def _time(value_ms: float | None) -> str:
    return "" if value_ms is None else f"{value_ms:.5f}"
