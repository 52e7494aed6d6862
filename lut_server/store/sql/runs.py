"""Runs and measurements in the database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, update
from sqlalchemy.sql.functions import count

from lut_server import error_codes
from lut_server.clock import stamp
from lut_server.store import schema
from lut_server.store.database import DatabaseStore, insert_missing
from lut_server.store.sql.devices import require_device, touch_device
from lut_server.store.sql.tables import add_table, get_summary
from lut_server.store.values import Stored, StoredRun, TableSummary
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import ROLES
from shared.tables.table import LatencyTable
from shared.wire import canonical_json, from_wire

_RUNS, _MEASUREMENTS, _NOMINALS = schema.runs.c, schema.measurements.c, schema.canary_nominals.c
_DECODER = msgspec.json.Decoder(Measurement)


class RunStore(DatabaseStore):
    """Runs with their measurements."""

    def put(self, run: Run) -> bool:
        """Store a run; False if it was there already (unknown_device, conflict)."""
        now, content = stamp(self._clock()), canonical_json(run).decode()
        with self._database.write() as connection:
            require_device(connection, run.device)
            values = {"id": run.id, "device": run.device, "content": content, "created_at": now}
            is_new = connection.execute(insert_missing(connection, schema.runs), values).rowcount > 0
            if not is_new and _get(connection, run.id).content != content:
                raise error_codes.refused("conflict", f"run '{run.id}' was uploaded before with other content")
            touch_device(connection, run.device, now)
            return is_new

    def get(self, run_id: str) -> StoredRun:
        """The run (unknown_run)."""
        with self._database.read() as connection:
            return _stored(connection, _get(connection, run_id))

    def get_run(self, run_id: str) -> Run:
        """The run without what became of it (unknown_run): counting its measurements takes time."""
        with self._database.read() as connection:
            return from_wire(Run, json.loads(_get(connection, run_id).content))

    def list(
        self, device: str | None = None, newest_first: bool = False, offset: int = 0, limit: int | None = None
    ) -> tuple[StoredRun, ...]:
        """Runs, of one device if given, the oldest first: `limit` of them after the first `offset`."""
        query = select(schema.runs).order_by(_RUNS.number.desc() if newest_first else _RUNS.number)
        if device is not None:
            query = query.where(_RUNS.device == device)
        with self._database.read() as connection:
            found = connection.execute(query.offset(offset).limit(limit)).all()
            return tuple(_stored(connection, row) for row in found)

    def count(self, device: str) -> int:
        """How many runs of the device there are."""
        with self._database.read() as connection:
            return connection.scalar(select(count()).select_from(schema.runs).where(_RUNS.device == device)) or 0

    def find_newest(self, device: str) -> StoredRun | None:
        """The run of the device that was stored last."""
        return next(iter(self.list(device, newest_first=True, limit=1)), None)

    def add_measurements(self, run_id: str, batch: Sequence[Measurement]) -> Stored:
        """Store a batch (unknown_run; conflict: other content, or a new id in a finished run)."""
        rows = [_row(run_id, measurement) for measurement in batch]
        with self._database.write() as connection:
            run = _get(connection, run_id, lock=True)
            stored = _insert(connection, rows) if rows else 0
            if stored < len(rows):
                _require_same(connection, run_id, rows)
            if stored and run.table_hash is not None:
                raise error_codes.refused("conflict", f"run '{run_id}' is finished: it takes no new measurements")
            touch_device(connection, run.device, stamp(self._clock()))
            return Stored(stored, len(rows) - stored)

    def drop_raw(self, finished_before: str) -> tuple[int, int]:
        """Give up the raw repeats of runs that were finished and started before a moment: runs and
        measurements.

        One value a round stays, the quantile that every statistic and every table is made of: both
        come out the same.
        """
        due = select(_RUNS.id).where(
            _RUNS.table_hash.is_not(None), _RUNS.created_at < finished_before, _RUNS.raw_dropped_at.is_(None)
        )
        with self._database.read() as connection:
            runs = connection.scalars(due.order_by(_RUNS.number)).all()
        return len(runs), sum(map(self._drop_raw, runs))

    def _drop_raw(self, run_id: str) -> int:
        query = select(_MEASUREMENTS.number, _MEASUREMENTS.content).where(_MEASUREMENTS.run == run_id)
        with self._database.write() as connection:
            _get(connection, run_id, lock=True)
            rows = [
                {"of_number": row.number, "kept": _write(read_measurement(row.content).without_raw()).decode()}
                for row in connection.execute(query)
            ]
            reduced = update(schema.measurements).where(_MEASUREMENTS.number == bindparam("of_number"))
            if rows:
                connection.execute(reduced.values(content=bindparam("kept")), rows)
            dropped = update(schema.runs).where(_RUNS.id == run_id).values(raw_dropped_at=stamp(self._clock()))
            connection.execute(dropped)
            return len(rows)

    def measurements(self, run_id: str, role: str | None = None) -> tuple[Measurement, ...]:
        """Every measurement of the run with its raw values, of one role if given (unknown_run)."""
        query = select(_MEASUREMENTS.content).where(_MEASUREMENTS.run == run_id).order_by(_MEASUREMENTS.number)
        if role is not None:
            query = query.where(_MEASUREMENTS.role == role)
        with self._database.read() as connection:
            _get(connection, run_id)
            contents = connection.scalars(query).all()
        return tuple(map(read_measurement, contents))

    def count_roles(self, run_id: str) -> dict[str, int]:
        """How many measurements of each role the run has, roles without any too (unknown_run)."""
        query = (
            select(_MEASUREMENTS.role, count().label("measurements"))
            .where(_MEASUREMENTS.run == run_id)
            .group_by(_MEASUREMENTS.role)
        )
        with self._database.read() as connection:
            _get(connection, run_id)
            counts = {row.role: row.measurements for row in connection.execute(query)}
        return {role: counts.get(role, 0) for role in ROLES}

    def find_canary_nominal(self, device: str, runtime: str, canary: str) -> float | None:
        """The unit of the device's milliseconds, if a finished run has set it."""
        with self._database.read() as connection:
            return _find_nominal(connection, device, runtime, canary)

    def finish(self, run_id: str, table: LatencyTable) -> TableSummary:
        """Store the run's table and, with a device's first one, the canary's nominal time.

        A run that is finished already keeps the table it has. Conflict: the table was made with
        another nominal time than the one that another run has set meanwhile.
        """
        now = stamp(self._clock())
        with self._database.write() as connection:
            run = _get(connection, run_id, lock=True)
            if run.table_hash is not None:
                return get_summary(connection, run.table_hash)
            _settle_nominal(connection, run_id, table, now)
            add_table(connection, table, now)
            connection.execute(update(schema.runs).where(_RUNS.id == run_id).values(table_hash=table.hash))
            return get_summary(connection, table.hash)


def _get(connection: Connection, run_id: str, lock: bool = False) -> Row[Any]:
    query = select(schema.runs).where(_RUNS.id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise error_codes.refused("unknown_run", f"no run has the id '{run_id[:80]}'")
    return row


def _row(run_id: str, measurement: Measurement) -> dict[str, str]:
    """The measurement as a row. The hash of its content stays when the raw repeats go."""
    content = _write(measurement)
    digest = hashlib.sha256(content).hexdigest()
    return {
        "run": run_id,
        "id": measurement.id,
        "role": measurement.role,
        "content_hash": digest,
        "content": content.decode(),
    }


def _insert(connection: Connection, rows: Sequence[Mapping[str, str]]) -> int:
    """Store the rows whose ids are free; returns how many were."""
    statement = insert_missing(connection, schema.measurements)
    if connection.dialect.name != "sqlite":
        return connection.execute(statement, rows).rowcount
    # Straight to the driver: what SQLAlchemy does to each row of plain values takes as long as
    # storing it.
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    values = [tuple(map(row.__getitem__, compiled.positiontup or ())) for row in rows]
    options = {"preserve_rowcount": True}
    return connection.exec_driver_sql(compiled.string, values, execution_options=options).rowcount


def _write(measurement: Measurement) -> bytes:
    """JSON with sorted keys: the same measurement always means the same text."""
    return msgspec.json.encode(measurement, order="sorted")


def read_measurement(content: str) -> Measurement:
    """A measurement from how it is stored."""
    return _DECODER.decode(content)


def _require_same(connection: Connection, run_id: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Raise Conflict unless every row of a batch equals what is stored under its id."""
    found = connection.execute(select(_MEASUREMENTS.id, _MEASUREMENTS.content_hash).where(_MEASUREMENTS.run == run_id))
    known = {row.id: row.content_hash for row in found}
    for row in rows:
        if row["content_hash"] != known[row["id"]]:
            problem = f"measurement '{row['id']}' of run '{run_id}' was uploaded before with other content"
            raise error_codes.refused("conflict", problem)


def _stored(connection: Connection, row: Row[Any]) -> StoredRun:
    number = connection.scalar(select(count()).select_from(schema.measurements).where(_MEASUREMENTS.run == row.id))
    run = from_wire(Run, json.loads(row.content))
    return StoredRun(run, number or 0, row.table_hash is not None, row.table_hash, row.raw_dropped_at)


def _find_nominal(connection: Connection, device: str, runtime: str, canary: str) -> float | None:
    return connection.scalar(
        select(_NOMINALS.nominal_ms).where(
            _NOMINALS.device == device, _NOMINALS.runtime == runtime, _NOMINALS.canary == canary
        )
    )


def _settle_nominal(connection: Connection, run_id: str, table: LatencyTable, now: str) -> None:
    key = {"device": table.device, "runtime": str(table.runtime.of_canary), "canary": table.canary}
    values = {**key, "nominal_ms": table.canary_nominal_ms, "run": run_id, "created_at": now}
    is_first = connection.execute(insert_missing(connection, schema.canary_nominals), values).rowcount > 0
    if not is_first and _find_nominal(connection, **key) != table.canary_nominal_ms:
        raise error_codes.refused(
            "conflict", f"another run of {table.device} has set the canary's nominal time meanwhile"
        )
