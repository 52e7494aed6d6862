"""Reads a published file as latency tables: finds its kind and its devices, and makes the tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from lut_server.tables.table_lookup import whole_space
from lut_server.transfer.additive_fit import Split, fit_table
from lut_server.transfer.architectures import ARCHITECTURE_COLUMNS, INDEX_COLUMNS, latency_columns, read_column
from lut_server.transfer.csv_rows import read_csv
from lut_server.transfer.imported_table import Target
from lut_server.transfer.layer_tables import layer_devices, layer_table
from lut_server.transfer.op_tables import get_dialect, op_table
from shared.errors import InvalidValue
from shared.tables.table import LatencyTable
from shared.tables.table_source import FORMATS, ONCE_FOR_ALL, PER_ARCHITECTURE, PER_LAYER, PROXYLESSNAS, TableSource

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
    """

    device: str = ""
    column: str = ""
    kind: str = ""
    space: str = ""
    batch: int = 1
    split: Split = field(default_factory=Split)
    indexed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind and self.kind not in FORMATS:
            raise InvalidValue("kind", f"'{self.kind[:40]}' is none of {', '.join(FORMATS)}")


def read_tables(content: bytes, name: str, request: ImportRequest) -> tuple[LatencyTable, ...]:
    """The tables of a file; nothing is stored.

    Raises:
        InvalidValue: the file is not valid or lacks what is asked for; the message names the line.
    """
    kind = request.kind or get_kind(content, name)
    digest = hashlib.sha256(content).hexdigest()
    if kind in (ONCE_FOR_ALL, PROXYLESSNAS):
        if not request.device:
            raise InvalidValue("device", f"{name} does not name its device: give --device NAME")
        return (op_table(Target(request.device, request.batch), TableSource(kind, name, digest), content),)
    subjects = latency_columns(content, name) if kind == PER_ARCHITECTURE else layer_devices(content, name)
    space = whole_space(request.space or DEFAULT_SPACE[kind])
    tables = []
    for device, subject in _wanted(request, subjects, name):
        target, source = Target(device, request.batch), TableSource(kind, name, digest, subject)
        if kind == PER_LAYER:
            tables.append(layer_table(target, source, space, content))
        else:
            column = read_column(content, name, subject, space, request.indexed)
            tables.append(fit_table(target, source, space, column, request.split))
    return tuple(tables)


def get_kind(content: bytes, name: str) -> str:
    """The kind of a file, by its suffix and its header.

    Raises:
        InvalidValue: the kind is unknown.
    """
    if name.lower().endswith((".yaml", ".yml")):
        return get_dialect(content, name)
    header = {column.lower() for column in read_csv(content, name)[0]}
    if {"layer", "op"} <= header:
        return PER_LAYER
    if header & {*ARCHITECTURE_COLUMNS, *INDEX_COLUMNS}:
        return PER_ARCHITECTURE
    raise InvalidValue(
        f"{name}, line 1",
        f"has neither architectures ({', '.join(ARCHITECTURE_COLUMNS)} or {INDEX_COLUMNS[0]}) nor layer and op;"
        " a YAML table ends in .yaml, an archive in .jsonl or .jsonl.gz",
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
