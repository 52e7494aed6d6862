"""Whether the store could take a measurement right now: it tries, and rolls back."""

from __future__ import annotations

import os

from sqlalchemy import insert

from lut_server.error_codes import refused
from lut_server.store import schema
from lut_server.store.database import RETRY_AFTER_S, Database
from shared.wire import DATABASE_REVISION

LEAST_FREE_BYTES = 16 << 20
_PROBE = {"sha256": "readiness probe", "created_at": "", "content": bytes(1 << 16)}


def check_ready(database: Database) -> str:
    """The schema revision of a store that can be written to.

    Raises:
        ServerRefused: 503 unavailable, the schema is not this server's, or its disk is nearly full.
        DBAPIError: the database itself says what is wrong.
    """
    found = database.revision()
    if found != DATABASE_REVISION:
        problem = f"the database has schema {found}, this server needs {DATABASE_REVISION}: start on another"
        raise refused("unavailable", problem, RETRY_AFTER_S)
    if database.path is not None:
        free_bytes = _free_bytes(database)
        if free_bytes < LEAST_FREE_BYTES:
            problem = f"the disk of the database is full: {free_bytes >> 20} MiB are left"
            raise refused("unavailable", problem, RETRY_AFTER_S)
    with database.write() as connection:
        # Rolled back: what would refuse a page, a lock or a write says so before that.
        connection.execute(insert(schema.models).values(_PROBE))
        connection.rollback()
    return found


def _free_bytes(database: Database) -> int:
    assert database.path is not None
    disk = os.statvfs(database.path.resolve().parent)
    return disk.f_bavail * disk.f_frsize
