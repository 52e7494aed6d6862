"""Reads a published file as latency tables: finds its kind and its devices, and makes the tables."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lut_server.tables.table_lookup import whole_space
from lut_server.transfer.additive_fit import Split, fit_table
from lut_server.transfer.architectures import (
    ARCHITECTURE_COLUMNS,
    INDEX_COLUMNS,
    latency_columns,
    read_column,
    value_columns,
)
from lut_server.transfer.csv_rows import read_csv
from lut_server.transfer.imported_table import Target
from lut_server.transfer.layer_tables import is_fbnet_lookup_table, layer_devices, layer_table, layers_of_lookup_table
from lut_server.transfer.op_tables import get_dialect, op_table
from lut_server.transfer.units import UNITS, is_other_quantity
from shared.errors import InvalidValue
from shared.tables.table import LatencyTable
from shared.tables.table_source import FORMATS, ONCE_FOR_ALL, PER_ARCHITECTURE, PER_LAYER, PROXYLESSNAS, TableSource

LEAST_TAU, ENOUGH_NETWORKS = 0.2, 20
"""Published latencies that were fitted so far have a rank correlation of 0.8 and more."""
DEFAULT_SPACE = {PER_ARCHITECTURE: "nas-bench-201", PER_LAYER: "fbnet"}


@dataclass(frozen=True)
class ImportRequest:
    """How to read a file.

    Attributes:
        device: name of the table's device; "" makes a table of each device, named as in the file.
        column: the file's name of the device; "" takes `device`, or the only name.
        kind: of `shared.tables.table_source.FORMATS`; "" finds it.
        space: of the architectures or layers; "" takes the usual space of the kind.
        indexed: architectures by index.
        unit: of the latencies (`units.UNITS`); "" takes what the file says, else ms. Given, it also
            insists that the column is one of latencies.
    """

    device: str = ""
    column: str = ""
    kind: str = ""
    space: str = ""
    batch: int = 1
    split: Split = field(default_factory=Split)
    indexed: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if self.kind and self.kind not in FORMATS:
            raise InvalidValue("kind", f"'{self.kind[:40]}' is none of {', '.join(FORMATS)}")
        if self.unit and self.unit not in UNITS:
            raise InvalidValue("unit", f"'{self.unit[:40]}' is none of {', '.join(UNITS)}")


def read_tables(
    content: bytes, name: str, request: ImportRequest, say: Callable[[str], None] = lambda line: None
) -> tuple[LatencyTable, ...]:
    """The tables of a file; nothing is stored. `say` is told which columns are no latencies.

    Raises:
        InvalidValue: the file is not valid or lacks what is asked for; the message names the line.
    """
    digest = hashlib.sha256(content).hexdigest()
    is_lookup_table = is_fbnet_lookup_table(content)
    content = layers_of_lookup_table(content, name) if is_lookup_table else content
    kind = request.kind or get_kind(content, name)
    if (kind in (ONCE_FOR_ALL, PROXYLESSNAS) or is_lookup_table) and not request.device:
        raise InvalidValue("device", f"{name} does not name its device: give --device NAME")
    if kind in (ONCE_FOR_ALL, PROXYLESSNAS):
        source = TableSource(kind, name, digest)
        return (op_table(Target(request.device, request.batch), source, content, UNITS[request.unit or "ms"]),)
    subjects = _columns(content, name, request, say) if kind == PER_ARCHITECTURE else layer_devices(content, name)
    space = whole_space(request.space or DEFAULT_SPACE[kind])
    tables = []
    for device, subject in _wanted(request, subjects, name):
        try:
            target, source = Target(device, request.batch), TableSource(kind, name, digest, subject)
        except InvalidValue as error:
            advice = f"; to name it: --device NAME --column {shlex.quote(subject)}"
            raise InvalidValue(error.field, error.problem + advice) from error
        if kind == PER_LAYER:
            tables.append(layer_table(target, source, space, content, request.unit))
        else:
            column = read_column(content, name, subject, space, request.indexed, request.unit)
            table = fit_table(target, source, space, column, request.split)
            if not request.unit:
                _require_order(table, f"{name}, column {subject}")
            tables.append(table)
    return tuple(tables)


def _columns(content: bytes, name: str, request: ImportRequest, say: Callable[[str], None]) -> tuple[str, ...]:
    """The columns that may be imported: those of latencies, or the one that is insisted on."""
    every, asked = value_columns(content, name), request.column or request.device
    if asked in every and is_other_quantity(asked):
        if not request.unit:
            raise InvalidValue(f"{name}, column {asked}", "is no latency by its name; --unit ms takes it all the same")
        return every
    found = latency_columns(content, name)
    if len(found) < len(every) and not asked:
        say(f"left out, no latencies by their names: {', '.join(column for column in every if column not in found)}")
    return found


def _require_order(table: LatencyTable, where: str) -> None:
    """Raise InvalidValue if the fit orders other networks hardly better than chance."""
    if sum(price.price_ms for price in table.prices) < 0:
        raise InvalidValue(
            where,
            "more ops would take less time: is it a rate? --column names another, --unit ms takes it all the same",
        )
    error = table.held_out
    if error is not None and error.networks >= ENOUGH_NETWORKS and error.kendall_tau < LEAST_TAU:
        raise InvalidValue(
            where,
            f"its ops do not explain it (Kendall tau {error.kendall_tau:.2f} on {error.networks} held-out networks): is"
            " it a latency? --column names another, --unit ms takes it all the same",
        )


def get_kind(content: bytes, name: str) -> str:
    """The kind of a file, by its suffix and its header.

    Raises:
        InvalidValue: the kind is unknown.
    """
    if name.lower().endswith((".yaml", ".yml", ".json")):
        return get_dialect(content, name)
    header = {column.lower() for column in read_csv(content, name)[0]}
    if {"layer", "op"} <= header:
        return PER_LAYER
    if header & {*ARCHITECTURE_COLUMNS, *INDEX_COLUMNS}:
        return PER_ARCHITECTURE
    raise InvalidValue(
        f"{name}, line 1",
        f"has neither architectures ({', '.join(ARCHITECTURE_COLUMNS)} or {INDEX_COLUMNS[0]}) nor layer and op;"
        " a YAML table ends in .yaml or .json, an archive in .jsonl or .jsonl.gz",
    )


def _wanted(request: ImportRequest, subjects: Sequence[str], name: str) -> list[tuple[str, str]]:
    """(device, the file's name for it) of each table."""
    if not request.device and not request.column:
        return [(subject, subject) for subject in subjects]
    if request.column or request.device in subjects:
        column = request.column or request.device
    else:
        column = subjects[0] if len(subjects) == 1 else request.device
    if column not in subjects:
        raise InvalidValue(name, f"knows no device '{column[:60]}' (it has: {', '.join(subjects)[:300]})")
    return [(request.device or column, column)]
