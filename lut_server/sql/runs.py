"""Runs and measurements in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.sql.functions import count

from lut_server import refusals, schema
from lut_server.clock import Clock, stamp
from lut_server.database import Database
from lut_server.sql.devices import require_device, touch_device
from lut_server.sql.tables import add_table, get_summary
from lut_server.store import Stored, StoredRun, TableSummary
from shared.measurement import Measurement, Run
from shared.table import LatencyTable
from shared.wire import canonical_json, content_hash, from_wire

_RUNS, _MEASUREMENTS, _NOMINALS = schema.runs.c, schema.measurements.c, schema.canary_nominals.c


class SqlRuns:
    """Implements `lut_server.store.RunStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def put(self, run: Run) -> bool:
        now, content = stamp(self._clock()), canonical_json(run).decode()
        with self._database.write() as connection:
            require_device(connection, run.device)
            touch_device(connection, run.device, now)
            known = connection.scalar(select(_RUNS.content).where(_RUNS.id == run.id))
            if known is None:
                values = {"id": run.id, "device": run.device, "content": content, "created_at": now}
                connection.execute(insert(schema.runs).values(values))
            elif known != content:
                raise refusals.refused("conflict", f"run '{run.id}' was uploaded before with other content")
            return known is None

    def get(self, run_id: str) -> StoredRun:
        with self._database.read() as connection:
            return _stored(connection, _get(connection, run_id))

    def list(self, device: str | None = None) -> tuple[StoredRun, ...]:
        query = select(schema.runs).order_by(_RUNS.number)
        if device is not None:
            query = query.where(_RUNS.device == device)
        with self._database.read() as connection:
            return tuple(_stored(connection, row) for row in connection.execute(query).all())

    def add_measurements(self, run_id: str, batch: Sequence[Measurement]) -> Stored:
        with self._database.write() as connection:
            run = _get(connection, run_id)
            query = select(_MEASUREMENTS.id, _MEASUREMENTS.content_hash).where(_MEASUREMENTS.run == run_id)
            known = {row.id: row.content_hash for row in connection.execute(query)}
            there = set(known)
            new = {}
            for measurement in batch:
                digest = content_hash(measurement)
                if known.setdefault(measurement.id, digest) != digest:
                    raise refusals.refused(
                        "conflict",
                        f"measurement '{measurement.id}' of run '{run_id}' was uploaded before with other content",
                    )
                if measurement.id not in there:
                    content = canonical_json(measurement).decode()
                    new[measurement.id] = {
                        "run": run_id,
                        "id": measurement.id,
                        "content_hash": digest,
                        "content": content,
                    }
            if new and run.table_hash is not None:
                raise refusals.refused("conflict", f"run '{run_id}' is finished: it takes no new measurements")
            if new:
                connection.execute(insert(schema.measurements), list(new.values()))
            touch_device(connection, run.device, stamp(self._clock()))
            return Stored(len(new), len(batch) - len(new))

    def measurements(self, run_id: str) -> tuple[Measurement, ...]:
        with self._database.read() as connection:
            _get(connection, run_id)
            query = select(_MEASUREMENTS.content).where(_MEASUREMENTS.run == run_id).order_by(_MEASUREMENTS.number)
            contents = connection.scalars(query).all()
        return tuple(from_wire(Measurement, json.loads(content)) for content in contents)

    def measured_kernels(self, run_id: str) -> tuple[Measurement, ...]:
        of_run = (_MEASUREMENTS.run == run_id) & _MEASUREMENTS.content.contains('"role":"kernel"')
        query = select(_MEASUREMENTS.content).where(of_run).order_by(_MEASUREMENTS.number)
        with self._database.read() as connection:
            contents = connection.scalars(query).all()
        found = tuple(from_wire(Measurement, json.loads(content)) for content in contents)
        return tuple(one for one in found if one.role == "kernel")

    def find_canary_nominal(self, device: str, runtime: str, canary: str) -> float | None:
        with self._database.read() as connection:
            return _find_nominal(connection, device, runtime, canary)

    def finish(self, run_id: str, table: LatencyTable) -> TableSummary:
        now = stamp(self._clock())
        with self._database.write() as connection:
            run = _get(connection, run_id)
            if run.table_hash is not None:
                return get_summary(connection, run.table_hash)
            _settle_nominal(connection, run_id, table, now)
            add_table(connection, table, now)
            connection.execute(update(schema.runs).where(_RUNS.id == run_id).values(table_hash=table.hash))
            return get_summary(connection, table.hash)


def _get(connection: Connection, run_id: str) -> Row[Any]:
    row = connection.execute(select(schema.runs).where(_RUNS.id == run_id)).one_or_none()
    if row is None:
        raise refusals.refused("unknown_run", f"no run has the id '{run_id[:80]}'")
    return row


def _stored(connection: Connection, row: Row[Any]) -> StoredRun:
    number = connection.scalar(select(count()).select_from(schema.measurements).where(_MEASUREMENTS.run == row.id))
    run = from_wire(Run, json.loads(row.content))
    return StoredRun(run, number or 0, row.table_hash is not None, row.table_hash)


def _find_nominal(connection: Connection, device: str, runtime: str, canary: str) -> float | None:
    return connection.scalar(
        select(_NOMINALS.nominal_ms).where(
            _NOMINALS.device == device, _NOMINALS.runtime == runtime, _NOMINALS.canary == canary
        )
    )


def _settle_nominal(connection: Connection, run_id: str, table: LatencyTable, now: str) -> None:
    key = {"device": table.device, "runtime": str(table.runtime), "canary": table.canary}
    known = _find_nominal(connection, **key)
    if known is None:
        values = {**key, "nominal_ms": table.canary_nominal_ms, "run": run_id, "created_at": now}
        connection.execute(insert(schema.canary_nominals).values(values))
    elif known != table.canary_nominal_ms:
        raise refusals.refused("conflict", f"another run of {table.device} has set the canary's nominal time meanwhile")
