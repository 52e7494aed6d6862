"""SQLAlchemy engines: SQLite in WAL mode, PostgreSQL that may go away and come back."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import NoSuchModuleError

from shared.errors import InvalidValue

BUSY_TIMEOUT_S = 10.0
"""Shorter than a client waits for an answer, so that it hears of a locked database from us."""
WAL_RETRY_S = 0.02
CONNECT_TIMEOUT_S = 5
MIGRATION_LOCK = 0x6C75746E
"""Key of PostgreSQL's advisory lock under which one server at a time migrates."""
_CONNECTION = {"connect_timeout": CONNECT_TIMEOUT_S, "client_encoding": "utf8"}
"""A database that was made with SQL_ASCII would answer in bytes otherwise."""
BACKENDS = ("sqlite", "postgresql")


def make_engine(url: URL, busy_timeout_s: float) -> Engine:
    """The engine of a database; nothing is connected yet.

    Raises:
        InvalidValue: the URL names no database that this server can use.
    """
    backend = url.get_backend_name()
    if backend not in BACKENDS:
        raise InvalidValue("database_url", f"'{url.drivername}' is neither sqlite nor postgresql+psycopg")
    try:
        return _sqlite(url, busy_timeout_s) if backend == "sqlite" else _postgresql(url, busy_timeout_s)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        extra = "; pip install 'lutnas[postgres]'" if backend == "postgresql" else ""
        raise InvalidValue("database_url", f"no driver for '{url.drivername}' is installed{extra}") from error


def _sqlite(url: URL, busy_timeout_s: float) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise InvalidValue("database_url", "a database in memory would forget every measurement; name a file")
    with suppress(OSError):  # SQLite says what is wrong; its log gets the mode of the database
        make_private(Path(url.database))
    # The web framework's thread pool has 40 threads: no request waits for a connection.
    engine = create_engine(url, pool_size=8, max_overflow=40, connect_args={"timeout": busy_timeout_s})

    def set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver opens no transactions of its own; `Database` does
        _keep_write_ahead_log(connection, busy_timeout_s)
        for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", set_up)
    return engine


def make_private(path: Path) -> None:
    """Make an empty file that its owner alone may read, unless there is one."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _keep_write_ahead_log(connection: Any, busy_timeout_s: float) -> None:
    """Wait for servers that start at the same time: SQLite refuses at once."""
    end_s = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end_s:
                raise
            time.sleep(WAL_RETRY_S)


def _postgresql(url: URL, busy_timeout_s: float) -> Engine:
    if url.get_driver_name() != "psycopg":
        raise InvalidValue("database_url", f"'{url.drivername}' is not supported; write postgresql+psycopg://…")
    engine = create_engine(
        url,
        # Several servers share one PostgreSQL, whose default is 100 connections.
        pool_size=8,
        max_overflow=8,
        pool_timeout=busy_timeout_s,
        # A connection that died while it lay in the pool is replaced before a request gets it.
        pool_pre_ping=True,
        connect_args={name: value for name, value in _CONNECTION.items() if name not in url.query},
    )

    def set_up(connection: Any, _: object) -> None:
        from psycopg.types.string import StrDumper

        class NulFreeDumper(StrDumper):
            """PostgreSQL's text holds no NUL: it is stored as a mark."""

            def dump(self, obj: str) -> Any:
                return super().dump(obj.replace("\0", "�") if "\0" in obj else obj)

        connection.adapters.register_dumper(str, NulFreeDumper)
        connection.execute(f"SET lock_timeout = {round(busy_timeout_s * 1000)}")
        connection.commit()

    event.listen(engine, "connect", set_up)
    return engine
