"""A latency table: its prices as a grid of ops and resolutions, its kernels, its error, its networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lut_server.pages.paging import Paging, part
from lut_server.tables.table_facts import KernelFacts, TableFacts
from shared.spaces.op_key import OpKey, parse_op_key
from shared.tables.kernel_prices import KernelPrice
from shared.tables.prediction import BaselineError, HeldOutError
from shared.tables.table import NetworkCheck, OpPrice
from shared.tables.table_source import TableSource

MOST_PLOTTED_ROWS = 60
MOST_DEAREST = 30
MOST_PLOTTED_NETWORKS = 1000


@dataclass(frozen=True)
class HeatMap:
    """Prices by op without its resolution (rows) and by input resolution (columns).

    Attributes:
        cells: one of the row at the column, None where the space has no such op.
        left_out: rows that are not here because there are too many; the dearest ones are here.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[OpPrice | None, ...], ...]
    left_out: int


@dataclass(frozen=True)
class TableView:
    """A table as people look at it.

    Attributes:
        prices: a page of them, as in the table.
        dearest: ops by falling price.
        kernel_prices: a page of them, by falling price.
    """

    hash: str
    device: str
    runtime: str
    space: str
    canary: str
    canary_nominal_ms: float
    agent_version: str
    base_ms: float
    held_out: HeldOutError | None
    kernels_held_out: HeldOutError | None
    baselines: tuple[BaselineError, ...]
    source: TableSource | None
    runs: tuple[str, ...]
    networks: int
    heat_map: HeatMap
    dearest: tuple[OpPrice, ...]
    prices: tuple[OpPrice, ...]
    paging: Paging
    kernel_prices: tuple[KernelPrice, ...]
    kernels_paging: Paging


@dataclass(frozen=True)
class NetworksView:
    """The networks of a table: measured, predicted, bounded. Held-out ones first, then the rest, by latency.

    Attributes:
        plotted: those that the plot shows, evenly thinned out where there are very many.
    """

    hash: str
    device: str
    space: str
    held_out: HeldOutError | None
    plotted: tuple[NetworkCheck, ...]
    networks: tuple[NetworkCheck, ...]
    above_bound: int
    paging: Paging


def view_table(table_hash: str, facts: TableFacts, page: int, kernels_page: int) -> TableView:
    """One page of the prices, and what belongs to them all."""
    prices, paging = part(facts.prices, page)
    kernels = facts.kernels or KernelFacts(0.0, ())
    by_price = sorted(kernels.prices, key=lambda one: -one.price_ms)
    kernel_prices, kernels_paging = part(by_price, kernels_page)
    return TableView(
        table_hash,
        facts.device,
        str(facts.runtime),
        facts.space,
        facts.canary,
        facts.canary_nominal_ms,
        facts.agent_version,
        facts.base_ms,
        facts.held_out,
        kernels.held_out,
        facts.baselines or (),
        facts.source,
        facts.runs,
        len(facts.networks),
        make_heat_map(facts.prices),
        tuple(sorted(facts.prices, key=lambda one: -one.price_ms)[:MOST_DEAREST]),
        prices,
        paging,
        kernel_prices,
        kernels_paging,
    )


def view_networks(table_hash: str, facts: TableFacts, page: int) -> NetworksView:
    """One page of the networks, and the plot of all."""
    ordered = sorted(facts.networks, key=lambda one: (one.role != "held_out", one.measured_ms))
    step = -(-len(ordered) // MOST_PLOTTED_NETWORKS) or 1
    shown, paging = part(ordered, page)
    held_out = [one for one in ordered if one.role == "held_out"]
    error = (facts.kernels.held_out if facts.kernels else None) or facts.held_out
    above = sum(one.measured_ms > one.upper_ms for one in held_out)
    return NetworksView(table_hash, facts.device, facts.space, error, tuple(ordered[::step]), shown, above, paging)


def make_heat_map(prices: Sequence[OpPrice], most_rows: int = MOST_PLOTTED_ROWS) -> HeatMap:
    """Ops in rows by primitive and channels, their resolutions in columns from large to small."""
    keyed = [(parse_op_key(price.op_key), price) for price in prices]
    columns = sorted({_side(key) for key, _ in keyed}, reverse=True)
    grid: dict[tuple[str, int, int, int], dict[tuple[int, int], OpPrice]] = {}
    for key, price in keyed:
        row = (key.primitive, key.input.channels, key.output.channels, key.stride)
        grid.setdefault(row, {})[_side(key)] = price
    dearest = sorted(grid, key=lambda row: -max(one.price_ms for one in grid[row].values()))[:most_rows]
    rows = sorted(dearest)
    return HeatMap(
        tuple(_row_name(row) for row in rows),
        tuple(f"{height}×{width}" for height, width in columns),
        tuple(tuple(grid[row].get(column) for column in columns) for row in rows),
        len(grid) - len(rows),
    )


def _side(key: OpKey) -> tuple[int, int]:
    return key.input.height, key.input.width


def _row_name(row: tuple[str, int, int, int]) -> str:
    primitive, inside, outside, stride = row
    channels = f"{inside}" if inside == outside else f"{inside}→{outside}"
    return f"{primitive} · {channels}" + (f" · /{stride}" if stride > 1 else "")
