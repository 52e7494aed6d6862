"""What a table says and rests on as flat files for notebooks: CSV and Parquet, with the same columns.

prices     op prices, the base as a row of its own
networks   networks measured whole, beside what the table predicts of them
raw        every single time of the runs that made the table, one a row
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lut_server.store.sql import Store
from lut_server.tables.text_table import PRICE_COLUMNS
from shared.errors import WrongUse
from shared.tables.table import LatencyTable

Row = tuple[Any, ...]
ROWS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Sheet:
    """Named columns, each with the type of its values (any may be None), and rows that are made as they are read."""

    columns: Mapping[str, type]
    rows: Iterable[Row]


def make_sheet(what: str, table: LatencyTable, store: Store) -> Sheet:
    """One of `SHEETS` of a table; `raw` reads the runs that made it from the store."""
    return SHEETS[what](table, store)


def csv_lines(sheet: Sheet) -> Iterator[bytes]:
    """The sheet as CSV, a part at a time; None is an empty cell."""
    rows = iter([tuple(sheet.columns)])
    body = iter(sheet.rows)
    while part := list(islice(rows, ROWS_AT_ONCE)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(part)
        yield text.getvalue().encode()
        rows = body


def write_parquet(sheet: Sheet, path: Path, about: Mapping[str, str]) -> None:
    """The sheet as Parquet, a row group at a time; `about` stands in the schema's metadata.

    Raises:
        WrongUse: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise WrongUse("Parquet needs pyarrow, which is not installed: pip install 'lutnas[parquet]'") from None
    kinds = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64(), bool: pyarrow.bool_()}
    fields = [pyarrow.field(name, kinds[kind]) for name, kind in sheet.columns.items()]
    schema = pyarrow.schema(fields, metadata=dict(about))
    rows = iter(sheet.rows)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while part := list(islice(rows, ROWS_AT_ONCE)):
            columns = [list(column) for column in zip(*part, strict=True)]
            writer.write_table(pyarrow.table(columns, schema=schema))


def about_table(table: LatencyTable) -> dict[str, str]:
    """Whose numbers these are."""
    said = {"device": table.device, "space": table.space, "runtime": str(table.runtime), "table": table.hash}
    return said if table.source is None else {**said, "imported_from": str(table.source)}


def _prices(table: LatencyTable, _: Store) -> Sheet:
    kinds: dict[str, type] = dict.fromkeys(PRICE_COLUMNS, float)
    kinds |= {"op_key": str, "stable": bool}
    base = ("base", table.base_ms, table.covariance[0][0] ** 0.5, *[None] * (len(PRICE_COLUMNS) - 3))
    rows = (tuple(getattr(price, column) for column in PRICE_COLUMNS) for price in table.prices)
    return Sheet(kinds, (row for part in ([base], rows) for row in part))


def _networks(table: LatencyTable, _: Store) -> Sheet:
    columns: dict[str, type] = {"genotype": str, "role": str}
    columns |= dict.fromkeys(("measured_ms", "predicted_ms", "upper_ms", "error_percent"), float)
    rows = (
        (
            one.genotype,
            one.role,
            one.measured_ms,
            one.predicted_ms,
            one.upper_ms,
            100 * (one.predicted_ms / one.measured_ms - 1),
        )
        for one in table.networks
    )
    return Sheet(columns, rows)


def _raw(table: LatencyTable, store: Store) -> Sheet:
    columns: dict[str, type] = dict.fromkeys(("run", "measurement", "role", "subject", "graph", "part"), str)
    columns |= {"round": int, "repeat": int, "ms": float}

    def rows() -> Iterator[Row]:
        for run in table.runs:
            for one in store.runs.measurements(run):
                for number, round_ in enumerate(one.rounds):
                    for part, graph, values in (
                        ("graph", one.graph, round_.graph_ms),
                        ("minus", one.minus, round_.minus_ms),
                        ("canary", table.canary, round_.canary_ms),
                    ):
                        for repeat, ms in enumerate(values):
                            yield run, one.id, one.role, one.subject, graph, part, number, repeat, ms

    return Sheet(columns, rows())


SHEETS: Mapping[str, Callable[[LatencyTable, Store], Sheet]] = MappingProxyType(
    {"prices": _prices, "networks": _networks, "raw": _raw}
)
