"""Devices in the database."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from lut_server import error_codes
from lut_server.clock import stamp
from lut_server.store import schema
from lut_server.store.database import DatabaseStore, insert_missing
from lut_server.store.values import Device
from shared.device_status import DeviceStatus
from shared.wire import canonical_json, from_wire

MOST_DEVICES, MOST_OF_TOKEN = 5000, 1000
_STATUSES = schema.device_statuses.c
_QUERY = select(schema.devices, _STATUSES.content, _STATUSES.reported_at).outerjoin(schema.device_statuses)


class DeviceStore(DatabaseStore):
    """Devices by name."""

    def register(self, name: str, probe: dict[str, str], token: str | None = None) -> tuple[Device, bool]:
        """Add a device, or renew the probe of a known one. Returns it and whether it is new.

        Conflict: there are as many as there may be, in all or of the token (its id).
        """
        now, encoded = stamp(self._clock()), canonical_json(probe).decode()
        with self._database.write() as connection:
            is_new = add_device(connection, name, encoded, now, token)
            if not is_new:
                touch_device(connection, name, now, probe=encoded)
            return _device(require_device(connection, name)), is_new

    def get(self, name: str) -> Device:
        """The device (unknown_device: the message lists the known ones)."""
        with self._database.read() as connection:
            return _device(require_device(connection, name))

    def report(self, name: str, status: DeviceStatus) -> Device:
        """Keep what the device's agent says of it, in place of its last word (unknown_device)."""
        now = stamp(self._clock())
        with self._database.write() as connection:
            require_device(connection, name)
            keep_status(connection, name, now, status)
            touch_device(connection, name, now)
            return _device(require_device(connection, name))

    def list(self) -> tuple[Device, ...]:
        """All devices."""
        with self._database.read() as connection:
            rows = connection.execute(_QUERY.order_by(schema.devices.c.created_at, schema.devices.c.name))
            return tuple(_device(row) for row in rows)


def add_device(connection: Connection, name: str, probe: str, now: str, token: str | None) -> bool:
    """Add a device within a transaction, unless it is there; returns whether it is new."""
    values = {"name": name, "probe": probe, "created_at": now, "last_seen_at": now, "token": token}
    if connection.execute(insert_missing(connection, schema.devices), values).rowcount == 0:
        return False
    number = select(func.count()).select_from(schema.devices)
    if (connection.scalar(number) or 0) > MOST_DEVICES:
        raise error_codes.refused("conflict", f"{MOST_DEVICES} devices are registered; no other can be")
    if token is not None and (connection.scalar(number.where(schema.devices.c.token == token)) or 0) > MOST_OF_TOKEN:
        problem = f"this token has registered {MOST_OF_TOKEN} devices; others need another token"
        raise error_codes.refused("conflict", problem)
    return True


def require_device(connection: Connection, name: str) -> Row[Any]:
    """A registered device within a transaction (unknown_device)."""
    row = connection.execute(_QUERY.where(schema.devices.c.name == name)).one_or_none()
    if row is None:
        raise error_codes.unknown_device(name, connection.scalars(select(schema.devices.c.name)))
    return row


def touch_device(connection: Connection, name: str, now: str, **more: str) -> None:
    """Note that the device was heard of: the last statement of each writer's transaction."""
    connection.execute(update(schema.devices).where(schema.devices.c.name == name).values(last_seen_at=now, **more))


def note_asked(connection: Connection, name: str, now: str, status: DeviceStatus | None = None) -> None:
    """Note within a transaction, last of all, that an agent asked for work of the device or is at
    it, and what it says.

    The device's status is locked before the device, here and wherever both are.
    """
    if status is not None:
        keep_status(connection, name, now, status)
    touch_device(connection, name, now, last_asked_at=now)


def keep_status(connection: Connection, name: str, now: str, status: DeviceStatus) -> None:
    """Keep a device's status within a transaction; the last check of a table stays with it."""
    if status.check is None:
        before = connection.execute(select(_STATUSES.content).where(_STATUSES.device == name)).scalar()
        status = status if before is None else replace(status, check=_read_status(before).check)
    values = {"device": name, "content": canonical_json(status).decode(), "reported_at": now}
    if connection.execute(insert_missing(connection, schema.device_statuses), values).rowcount == 0:
        connection.execute(update(schema.device_statuses).where(schema.device_statuses.c.device == name).values(values))


def _read_status(content: str) -> DeviceStatus:
    return from_wire(DeviceStatus, json.loads(content))


def _device(row: Row[Any]) -> Device:
    status = None if row.content is None else _read_status(row.content)
    return Device(
        row.name, json.loads(row.probe), row.created_at, row.last_seen_at, row.last_asked_at, status, row.reported_at
    )
