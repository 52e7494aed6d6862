"""Latency tables in the database: kept as the bytes that are served."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Integer, Row, String, bindparam, case, or_, select
from sqlalchemy.sql.functions import func

from lut_server import error_codes
from lut_server.clock import Clock, stamp
from lut_server.store import schema
from lut_server.store.database import Database, DatabaseStore, insert_missing
from lut_server.store.sql.devices import add_device
from lut_server.store.values import TableSummary
from shared.tables.held_out_error import HeldOutError
from shared.tables.table import LatencyTable, read_table
from shared.tables.table_source import IMPORTED_ENGINE
from shared.wire import canonical_json

_TABLES = schema.latency_tables.c
_SUMMARY = [column for column in _TABLES if column.name != "content"]
# Built once: that takes longer than the database's answer.
_NEWEST = (
    select(*_SUMMARY)
    .where(
        _TABLES.device == bindparam("device"),
        or_(
            bindparam("space", type_=String) == "",
            _TABLES.space == bindparam("space"),
            func.substr(_TABLES.space, 1, bindparam("length", type_=Integer)) == bindparam("below"),
        ),
    )
    .order_by(
        case((_TABLES.runtime.startswith(f"{IMPORTED_ENGINE}-"), 1), else_=0),
        case((_TABLES.runtime.contains("/fp32/", autoescape=True), 0), else_=1),
        _TABLES.number.desc(),
    )
    .limit(1)
)
_NEWEST_OF_RUNTIME = _NEWEST.where(_TABLES.runtime == bindparam("runtime"))


class TableStore(DatabaseStore):
    """Latency tables: the same hash always means the same bytes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        # The same hash always means the same bytes, and the newest table is the same until
        # something is written.
        self._kept = lru_cache(maxsize=8)(self._read_bytes)
        self._newest = lru_cache(maxsize=256)(self._find_newest)

    def get_bytes(self, table_hash: str) -> bytes:
        """Canonical JSON of the table (no_table)."""
        return self._kept(table_hash)

    def get(self, table_hash: str) -> LatencyTable:
        """The table (no_table)."""
        return read_table(json.loads(self.get_bytes(table_hash)))

    def _read_bytes(self, table_hash: str) -> bytes:
        with self._database.read() as connection:
            content = connection.scalar(select(_TABLES.content).where(_TABLES.hash == table_hash))
        if content is None:
            raise error_codes.refused("no_table", f"no table has the hash {table_hash[:80]}")
        return bytes(content)

    def put_imported(self, table: LatencyTable, token: str | None = None) -> bool:
        """Store an imported table and its device; False if the table was there already.

        Conflict: as for a device that is registered.
        """
        now = stamp(self._clock())
        with self._database.write() as connection:
            probe = canonical_json({"imported": str(table.source)}).decode()
            add_device(connection, table.device, probe, now, token)
            return add_table(connection, table, now)

    def find(self, device: str, space: str = "", runtime: str | None = None) -> TableSummary | None:
        """The newest table of the device whose space is `space` or begins with its parts.

        A measured table goes before every imported one. Without a runtime a table of fp32 goes
        before those of other precisions: who says nothing means plain networks.
        """
        return self._newest(self._database.version(), device, space, runtime)

    def _find_newest(self, _: int, device: str, space: str, runtime: str | None) -> TableSummary | None:
        values = {"device": device, "space": space, "length": len(space) + 1, "below": f"{space}/", "runtime": runtime}
        with self._database.read() as connection:
            row = connection.execute(_NEWEST if runtime is None else _NEWEST_OF_RUNTIME, values).one_or_none()
        return None if row is None else _summary(row)

    def list(self, device: str | None = None) -> tuple[TableSummary, ...]:
        """All tables, of one device if given."""
        query = select(*_SUMMARY).order_by(_TABLES.number)
        if device is not None:
            query = query.where(_TABLES.device == device)
        with self._database.read() as connection:
            return tuple(_summary(row) for row in connection.execute(query))


def add_table(connection: Connection, table: LatencyTable, now: str) -> bool:
    """Store a table within a transaction; False if it was there already."""
    values = {
        "hash": table.hash,
        "device": table.device,
        "space": table.space,
        "runtime": str(table.runtime),
        "canary_nominal_ms": table.canary_nominal_ms,
        "held_out": None if table.held_out is None else canonical_json(table.held_out).decode(),
        "created_at": now,
        "content": canonical_json(table),
    }
    return connection.execute(insert_missing(connection, schema.latency_tables), values).rowcount > 0


def get_summary(connection: Connection, table_hash: str) -> TableSummary:
    """Summary, within a transaction, of a table that is there."""
    return _summary(connection.execute(select(*_SUMMARY).where(_TABLES.hash == table_hash)).one())


def _summary(row: Row[Any]) -> TableSummary:
    held_out = None if row.held_out is None else msgspec.json.decode(row.held_out, type=HeldOutError)
    return TableSummary(row.device, row.space, row.runtime, row.hash, row.created_at, row.canary_nominal_ms, held_out)
