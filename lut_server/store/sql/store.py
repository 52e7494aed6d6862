"""The store as a whole, and how it is opened."""

from __future__ import annotations

import os

from sqlalchemy import insert

from lut_server.clock import Clock, utc_now
from lut_server.error_codes import refused
from lut_server.store import schema
from lut_server.store.database import RETRY_AFTER_S, Database
from lut_server.store.engines import BUSY_TIMEOUT_S
from lut_server.store.sql.archive import ArchiveStore
from lut_server.store.sql.devices import DeviceStore
from lut_server.store.sql.jobs import JobStore
from lut_server.store.sql.kernels import KernelStore
from lut_server.store.sql.models import ModelStore
from lut_server.store.sql.pairings import PairingStore
from lut_server.store.sql.runs import RunStore
from lut_server.store.sql.searches import SearchStore
from lut_server.store.sql.tables import TableStore
from lut_server.store.sql.tokens import TokenStore
from shared.wire import DATABASE_REVISION


class Store:
    """Everything that the server keeps."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.devices = DeviceStore(database, clock)
        self.runs = RunStore(database, clock)
        self.kernels = KernelStore(database, clock)
        self.tables = TableStore(database, clock)
        self.models = ModelStore(database, clock)
        self.jobs = JobStore(database, clock)
        self.searches = SearchStore(database, clock)
        self.tokens = TokenStore(database, clock)
        self.pairings = PairingStore(database, clock)
        self.archive = ArchiveStore(database)

    def close(self) -> None:
        """Give up all connections."""
        self.database.close()


def open_store(url: str, clock: Clock = utc_now, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Store:
    """Open the database; the tables of a new one are made.

    Raises:
        InvalidValue: the URL is not one.
        OtherSchema: another lutnas made its tables.
        LutnasError: it cannot be opened.
    """
    return Store(Database(url, busy_timeout_s), clock)


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
        disk = os.statvfs(database.path.resolve().parent)
        free_bytes = disk.f_bavail * disk.f_frsize
        if free_bytes < LEAST_FREE_BYTES:
            problem = f"the disk of the database is full: {free_bytes >> 20} MiB are left"
            raise refused("unavailable", problem, RETRY_AFTER_S)
    with database.write() as connection:
        # Rolled back: what would refuse a page, a lock or a write says so before that.
        connection.execute(insert(schema.models).values(_PROBE))
        connection.rollback()
    return found
