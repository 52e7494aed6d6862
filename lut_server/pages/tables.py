"""A latency table: prices as a grid of ops and resolutions, kernels, error, networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lut_server.pages.lists import Paging, paginate
from lut_server.tables.table_facts import KernelFacts, TableFacts
from shared.spaces.op_key import OpKey, parse_op_key
from shared.tables.held_out_error import HeldOutError
from shared.tables.table import NetworkCheck, OpPrice

MOST_PLOTTED_ROWS = 60
MOST_DEAREST = 30
MOST_PLOTTED_NETWORKS = 1000


@dataclass(frozen=True)
class HeatMap:
    """Prices by op without its resolution (rows) and by input resolution (columns).

    Attributes:
        cells: one list per row; None where the space has no such op.
        left_out: number of rows beyond the limit; the dearest rows are here.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[OpPrice | None, ...], ...]
    left_out: int


@dataclass(frozen=True)
class TableView:
    """A table as people look at it.

    Attributes:
        table: with one page of its prices, one page of its kernel prices, and no networks.
        dearest: ops by falling price.
    """

    hash: str
    table: TableFacts
    networks: int
    heat_map: HeatMap
    dearest: tuple[OpPrice, ...]
    paging: Paging
    kernels_paging: Paging


@dataclass(frozen=True)
class NetworksView:
    """The networks of a table: measured, predicted, bounded; held-out networks first, by latency.

    Attributes:
        plotted: an even selection where there are very many.
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
    """A table with one page of its prices and one page of its kernel prices, which fall."""
    prices, paging = paginate(facts.prices, page)
    kernels = facts.kernels or KernelFacts(0.0, ())
    by_price = sorted(kernels.prices, key=lambda price: -price.price_ms)
    kernel_prices, kernels_paging = paginate(by_price, kernels_page)
    shown = replace(facts, prices=prices, networks=(), kernels=replace(kernels, prices=kernel_prices))
    dearest = tuple(sorted(facts.prices, key=lambda price: -price.price_ms)[:MOST_DEAREST])
    heat_map = make_heat_map(facts.prices)
    return TableView(table_hash, shown, len(facts.networks), heat_map, dearest, paging, kernels_paging)


def view_networks(table_hash: str, facts: TableFacts, page: int) -> NetworksView:
    """One page of the networks, and the plot of all."""
    ordered = sorted(facts.networks, key=lambda network: (network.role != "held_out", network.measured_ms))
    step = -(-len(ordered) // MOST_PLOTTED_NETWORKS) or 1
    shown, paging = paginate(ordered, page)
    above = sum(network.role == "held_out" and network.measured_ms > network.upper_ms for network in ordered)
    return NetworksView(
        table_hash, facts.device, facts.space, facts.held_out, tuple(ordered[::step]), shown, above, paging
    )


def make_heat_map(prices: Sequence[OpPrice]) -> HeatMap:
    """Ops in rows by primitive and channels, their resolutions in columns from large to small."""
    keyed = [(parse_op_key(price.op_key), price) for price in prices]
    columns = sorted({_side(key) for key, _ in keyed}, reverse=True)
    grid: dict[tuple[str, int, int, int], dict[tuple[int, int], OpPrice]] = {}
    for key, price in keyed:
        row = (key.primitive, key.input.channels, key.output.channels, key.stride)
        grid.setdefault(row, {})[_side(key)] = price
    dearest = sorted(grid, key=lambda row: -max(price.price_ms for price in grid[row].values()))
    rows = sorted(dearest[:MOST_PLOTTED_ROWS])
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
