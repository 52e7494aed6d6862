"""Everything in the database as records, and back: whatever columns the schema has.

Documents (JSON text) stand in a record as objects where writing them canonically gives the same
text, and as text otherwise; bytes stand as base64, a table's content as the object that it is.
Nothing is lost, and most can be read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from sqlalchemy import Column, Connection, Double, Integer, LargeBinary, Table, insert, select, tuple_
from sqlalchemy.exc import DataError, IntegrityError

from lut_server import error_codes
from lut_server.store import schema
from lut_server.store.database import Database
from lut_server.store.values import ArchiveRecord, Loaded
from shared.errors import CorruptFile, in_one_line
from shared.wire import canonical_json

CHUNK = 100
_COUNTER, _TOKEN = "number", "token"
_MOMENTS = frozenset({"created_at", "last_seen_at", "last_asked_at", "lease_owner", "lease_until", "attempts"})
LEFT_OUT = ("tokens", "pairings", "device_statuses")
"""Database tables without records: the secrets of one server, and what was true for a minute."""


@dataclass(frozen=True)
class Kind:
    """Which rows a kind of record stands for.

    Attributes:
        identity: columns that name a row.
        documents: columns of JSON text.
        bookkeeping: columns that may differ between two stores of the same things.
    """

    name: str
    table: Table
    identity: tuple[str, ...]
    documents: tuple[str, ...] = ()
    bookkeeping: frozenset[str] = _MOMENTS

    @property
    def columns(self) -> list[Column[Any]]:
        """All but the counter that gives the order, and whose they are on this server."""
        return [column for column in self.table.c if column.name not in (_COUNTER, _TOKEN)]

    @property
    def keys(self) -> list[Column[Any]]:
        """The columns of the identity."""
        return [self.table.c[name] for name in self.identity]


KINDS = (
    Kind("device", schema.devices, ("name",), ("probe",), _MOMENTS | {"probe"}),
    Kind("table", schema.latency_tables, ("hash",), ("held_out",)),
    Kind("run", schema.runs, ("id",), ("content",)),
    Kind("measurement", schema.measurements, ("run", "id"), ("content",)),
    Kind("kernels", schema.kernel_counts, ("device", "runtime", "graph_hash"), ("counts",)),
    Kind("nominal", schema.canary_nominals, ("device", "runtime", "canary")),
    Kind("model", schema.models, ("sha256",)),
    Kind("own-network", schema.own_networks, ("graph_hash",)),
    Kind("job", schema.jobs, ("id",), ("content", "verification", "result")),
    Kind("search", schema.searches, ("id",), ("content",)),
)
"""In the order in which one may refer to those before it."""
_BY_NAME = {kind.name: kind for kind in KINDS}


class ArchiveStore:
    """Everything but tokens and pairing codes, as records in a fixed order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def records(self) -> Iterator[ArchiveRecord]:
        """All records, of one moment; one of each kind refers to kinds before it only."""
        with self._database.read() as connection:
            for kind in KINDS:
                for row in _rows(connection, kind):
                    fields = {column.name: _to_field(kind, column, row[column.name]) for column in kind.columns}
                    yield ArchiveRecord(kind.name, fields)

    def load(self, records: Iterable[ArchiveRecord]) -> Loaded:
        """Store all records, or none where reading them raises; what is there already is passed
        over.

        Raises:
            Conflict: something else is here under a record's name. Moments, leases and a device's
                probe may differ.
            CorruptFile: a record does not fit the store.
        """
        stored: dict[str, int] = dict.fromkeys(_BY_NAME, 0)
        known: dict[str, int] = dict.fromkeys(_BY_NAME, 0)
        new_runs: set[str] = set()
        with self._database.write() as connection:
            for name, group in groupby(records, key=lambda record: record.kind):
                while chunk := list(islice(group, CHUNK)):
                    new = _load(connection, _BY_NAME[name], chunk, new_runs)
                    stored[name] += new
                    known[name] += len(chunk) - new
        return Loaded(stored, known)


def _rows(connection: Connection, kind: Kind) -> Iterator[Any]:
    """The rows of a kind in their order, a few at a time."""
    query = select(*kind.columns)
    if _COUNTER in kind.table.c:
        query = query.order_by(kind.table.c[_COUNTER]).execution_options(yield_per=CHUNK)
        yield from connection.execute(query).mappings()
        return
    # Sorted here: databases do not agree on the order of texts.
    by = ("created_at", *kind.identity)
    keys = [tuple(row) for row in connection.execute(select(*(kind.table.c[name] for name in by)))]
    for key in sorted(keys):
        same = [column == value for column, value in zip(kind.keys, key[1:], strict=True)]
        yield connection.execute(query.where(*same)).mappings().one()


def _load(connection: Connection, kind: Kind, chunk: Sequence[ArchiveRecord], new_runs: set[str]) -> int:
    """Insert what is new of some records; returns how many that were."""
    rows = {tuple(row[name] for name in kind.identity): row for row in (_to_row(kind, record) for record in chunk)}
    if len(rows) < len(chunk):
        raise CorruptFile(f"{chunk[-1].where}: a {kind.name} is there twice, here or shortly before")
    there = {
        tuple(row[name] for name in kind.identity): row
        for row in connection.execute(select(kind.table).where(tuple_(*kind.keys).in_(list(rows)))).mappings()
    }
    for key, row in rows.items():
        if key in there:
            _require_same(kind, key, row, there[key])
        elif kind.name == "measurement" and row["run"] not in new_runs:
            _require_open(connection, row)
    new = [row for key, row in rows.items() if key not in there]
    if kind.name == "run":
        new_runs.update(row["id"] for row in new)
    try:
        if new:
            connection.execute(insert(kind.table), new)
    except (IntegrityError, DataError) as error:
        said = in_one_line(error.orig)
        raise CorruptFile(f"{chunk[0].where} or shortly after: a {kind.name} does not fit: {said}") from error
    return len(new)


def _require_same(kind: Kind, key: tuple[Any, ...], row: dict[str, Any], there: Any) -> None:
    differing = [name for name, value in row.items() if name not in kind.bookkeeping and there[name] != value]
    if differing:
        name, what = " ".join(str(part)[:80] for part in key), ", ".join(differing)
        raise error_codes.refused("conflict", f"the {kind.name} {name} is here already with another {what}")


def _require_open(connection: Connection, row: dict[str, Any]) -> None:
    query = select(schema.runs.c.table_hash).where(schema.runs.c.id == row["run"])
    if connection.scalar(query) is not None:
        raise error_codes.refused(
            "conflict", f"run {row['run']} is finished here, and without the measurement {row['id']} of the archive"
        )


def _to_field(kind: Kind, column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, LargeBinary):
        document = _document(value) if kind.name == "table" else None
        return base64.b64encode(value).decode() if document is None else document
    if column.name in kind.documents:
        document = _document(value.encode())
        return value if document is None else document
    return value


def _document(content: bytes) -> dict[str, Any] | None:
    """The object whose canonical JSON these bytes are, if there is one."""
    try:
        found = json.loads(content)
        return found if isinstance(found, dict) and canonical_json(found) == content else None
    except ValueError:
        return None


def _to_row(kind: Kind, record: ArchiveRecord) -> dict[str, Any]:
    """The row of a record."""
    columns = {column.name for column in kind.columns}
    for name in sorted(columns ^ set(record.fields)):
        found = "no" if name in columns else "an unknown"
        raise CorruptFile(f"{record.where}: a {kind.name} has {found} field '{name[:40]}'")
    return {column.name: _to_value(kind, column, record.fields[column.name], record) for column in kind.columns}


def _to_value(kind: Kind, column: Column[Any], value: Any, record: ArchiveRecord) -> Any:
    if isinstance(value, dict) and (column.name in kind.documents or isinstance(column.type, LargeBinary)):
        encoded = canonical_json(value)
        return encoded if isinstance(column.type, LargeBinary) else encoded.decode()
    if not _fits(column, value):
        raise CorruptFile(f"{record.where}: {column.name} of a {record.kind} cannot be {json.dumps(value)[:60]}")
    if value is not None and isinstance(column.type, LargeBinary):
        return base64.b64decode(value)
    return value


def _fits(column: Column[Any], value: Any) -> bool:
    if value is None:
        return bool(column.nullable)
    if isinstance(column.type, Integer):
        return type(value) is int and abs(value) < 2**31
    if isinstance(column.type, Double):
        return type(value) in (int, float)
    longest = getattr(column.type, "length", None)
    return isinstance(value, str) and (longest is None or len(value) <= longest)
