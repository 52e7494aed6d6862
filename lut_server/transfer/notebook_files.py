"""A table and its measurements as flat files for notebooks: CSV and Parquet, with the same columns.

prices     op prices, and the base as a row
networks   networks, measured and predicted
raw        every time of the runs that made the table
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
from shared.errors import WrongUse
from shared.tables.table import LatencyTable

Row = tuple[Any, ...]
ROWS_AT_ONCE = 20_000


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


@dataclass(frozen=True)
class Sheet:
    """Columns with the type of their values (any may be None), and rows made as they are read."""

    columns: Mapping[str, type]
    rows: Iterable[Row]


def make_sheet(what: str, table: LatencyTable, store: Store) -> Sheet:
    """A sheet of `SHEETS`; `raw` reads the table's runs from the store."""
    return SHEETS[what](table, store)


def csv_lines(sheet: Sheet) -> Iterator[bytes]:
    """The sheet as CSV, in parts; None is an empty cell."""
    rows = iter([tuple(sheet.columns)])
    body = iter(sheet.rows)
    while part := list(islice(rows, ROWS_AT_ONCE)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(part)
        yield text.getvalue().encode()
        rows = body


def write_parquet(sheet: Sheet, path: Path, about: Mapping[str, str]) -> None:
    """Write the sheet as Parquet; `about` becomes the schema's metadata.

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
    """The origin of the numbers."""
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
    names = tuple(columns)[:-1]
    rows = (
        (*(getattr(check, name) for name in names), 100 * (check.predicted_ms / check.measured_ms - 1))
        for check in table.networks
    )
    return Sheet(columns, rows)


def _raw(table: LatencyTable, store: Store) -> Sheet:
    columns: dict[str, type] = dict.fromkeys(("run", "measurement", "role", "subject", "graph", "part"), str)
    columns |= {"round": int, "repeat": int, "ms": float}

    def rows() -> Iterator[Row]:
        for run in table.runs:
            for measurement in store.runs.measurements(run):
                named = (run, measurement.id, measurement.role, measurement.subject)
                for number, round_ in enumerate(measurement.rounds):
                    for part, graph, values in (
                        ("graph", measurement.graph, round_.graph_ms),
                        ("minus", measurement.minus, round_.minus_ms),
                        ("canary", table.canary, round_.canary_ms),
                    ):
                        for repeat, ms in enumerate(values):
                            yield (*named, graph, part, number, repeat, ms)

    return Sheet(columns, rows())


SHEETS: Mapping[str, Callable[[LatencyTable, Store], Sheet]] = MappingProxyType(
    {"prices": _prices, "networks": _networks, "raw": _raw}
)
