"""Connections, transactions and the making of tables, for SQLite and for PostgreSQL.

Both promise the same: a read sees a single consistent state, a write happens whole or not at all.
SQLite has a single writer. A writing transaction takes the write lock at its start: a transaction
that reads first and upgrades later fails as soon as another wrote in between. PostgreSQL has many
writers. A method locks the rows that its decision rests on (`with_for_update`; SQLite's dialect
leaves it out) and inserts with `insert_missing` what another may be inserting right now.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Insert, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lut_server.clock import Clock
from lut_server.error_codes import refused
from lut_server.store.engines import BUSY_TIMEOUT_S, MIGRATION_LOCK, make_engine
from shared.errors import InvalidValue, LutnasError, in_one_line
from shared.wire import DATABASE_REVISION, require_schema

MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = threading.Lock()
"""alembic keeps the migration under way in globals of the process."""


class Database:
    """One database by its URL; opening it makes the tables of a new one.

    Args:
        url: of SQLAlchemy; `sqlite:///FILE` or `postgresql+psycopg://…`.
        busy_timeout_s: how long a statement waits for a lock that another holds.

    Raises:
        InvalidValue: the URL is not one.
        OtherSchema: another lutnas made its tables.
        LutnasError: it cannot be opened.
    """

    def __init__(self, url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._url = _parse(url)
        self.engine = make_engine(self._url, busy_timeout_s)
        # PostgreSQL's default lets every statement see another state; SQLite's reads are snapshots
        # anyway.
        snapshots = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reading = self.engine.execution_options(**snapshots)
        self._busy_timeout_s = busy_timeout_s
        self._count = itertools.count(1)
        self._watch: sqlite3.Connection | None = None
        self._watch_lock = threading.Lock()
        self._files: Identities | None = None
        # Threads of this process wait for each other in turn; SQLite's own way is to sleep and try
        # again.
        self._turn = threading.Lock() if self.is_sqlite else None
        try:
            self._migrate()
        except (LutnasError, DBAPIError) as error:
            self.engine.dispose()
            if isinstance(error, LutnasError):
                raise
            said = in_one_line(error.orig)
            raise LutnasError(f"cannot open the database {self.name}: {said}") from error

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, and not PostgreSQL."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path | None:
        """SQLite's file; None for PostgreSQL."""
        return Path(self._url.database or "") if self.is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent state."""
        with self._reading.connect() as connection, connection.begin():
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, rolled back on an exception.

        Raises:
            ServerRefused: 503, SQLite's files are not those that were opened; what was written is lost.
        """
        self._require_same_files()
        # Whoever waited in vain for a turn hears from SQLite itself that the database is locked.
        has_turn = self._turn is not None and self._turn.acquire(timeout=self._busy_timeout_s)
        try:
            with self.engine.connect() as connection, connection.begin():
                if self.is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
            self._require_same_files()
        finally:
            if has_turn and self._turn is not None:
                self._turn.release()

    def revision(self) -> str:
        """Schema revision that the database is at."""
        with self.read() as connection:
            return _revision(connection) or "none"

    def count(self, table: Table) -> int:
        """Number of a table's rows."""
        with self.read() as connection:
            return connection.scalar(select(func.count()).select_from(table)) or 0

    def version(self) -> int:
        """A number that changes with each write; on PostgreSQL it changes at each call."""
        if not self.is_sqlite:
            return next(self._count)
        with self._watch_lock:
            if self._watch is None:
                # It waits for no lock: the question takes microseconds.
                self._watch = sqlite3.connect(str(self.path), 0, isolation_level=None, check_same_thread=False)
            try:
                return int(self._watch.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.Error:
                return -next(self._count)  # the next read says what is wrong

    def vacuum(self) -> None:
        """Give the room of deleted rows back to the disk."""
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with autocommit.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            if self.is_sqlite:
                raw.commit()
            raw.execute("VACUUM")

    def close(self) -> None:
        """Close all connections; they are made again when they are needed."""
        self.engine.dispose()
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
            self._watch = None
        self._files = None

    def _require_same_files(self) -> None:
        """SQLite goes on writing to files that were deleted or replaced."""
        if self.path is None:
            return
        if self._files is None:
            with self.read() as connection:
                _revision(connection)  # whoever reads has opened the log
                self._files = _identities(self.path)
        if None in self._files or _identities(self.path) != self._files:
            problem = "the database file or its log (-wal, -shm) was deleted or replaced under the server; "
            problem += "restart the server"
            raise refused("unavailable", problem, RETRY_AFTER_S)

    def _migrate(self) -> None:
        with self.read() as connection:
            found = _revision(connection)
        if found is None:  # the usual case waits for no writer
            found = self._make_tables()
        self._require_same_files()
        require_schema(f"the database {self.name}", found, DATABASE_REVISION)

    def _make_tables(self) -> str | None:
        """Make the tables, unless another server did it meanwhile; returns the revision."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with _MIGRATING, self.write() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            if _revision(connection) is None:
                config.attributes["connection"] = connection
                command.upgrade(config, DATABASE_REVISION)
            return _revision(connection)


class DatabaseStore:
    """What each store of `lut_server.store.sql` has: the database, and the clock of its moments."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock


Identities = tuple[tuple[int, int] | None, ...]


def _identities(path: Path) -> Identities:
    """What a database's files are, whatever their names; None for those that are not there.

    Behind a symbolic link the log lies beside the file itself.
    """
    path = Path(os.path.realpath(path))
    found: list[tuple[int, int] | None] = []
    for end in ("", "-wal", "-shm"):
        try:
            there = path.with_name(path.name + end).stat()
        except OSError:
            found.append(None)
        else:
            found.append((there.st_dev, there.st_ino))
    return tuple(found)


def insert_missing(connection: Connection, table: Table) -> Insert:
    """A statement that inserts rows whose unique keys are free; its `rowcount` says how many were.

    A row that another transaction is inserting right now is waited for: afterwards it is there,
    whoever won.
    """
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise InvalidValue("database_url", "is not an SQLAlchemy URL such as sqlite:///lutnas.db") from error


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


RETRY_AFTER_S = 2
_CAUSES = (
    (("disk is full", "disk full", "no space left"), "the disk of the database is full; nothing can be stored"),
    (("is locked", "lock timeout", "table is locked"), "another writer holds the database; try again"),
    (("deadlock", "could not serialize"), "two writers met; try again"),
    (("readonly database", "read-only transaction"), "the database can only be read"),
    (("no such table", "no such column"), "the database has another schema than this server; restart the server"),
)
_PERMANENT = ("syntax error",)


def describe_outage(error: SQLAlchemyError) -> str | None:
    """A line about the database's present state; None for a fault of this program."""
    if isinstance(error, PoolTimeout):
        return "every connection to the database is in use; try again"
    if not isinstance(error, DBAPIError):
        return None
    said = " ".join(str(error.orig).split()).lower()
    for words, meaning in _CAUSES:
        if any(word in said for word in words):
            return meaning
    if error.connection_invalidated or (isinstance(error, OperationalError) and not any(w in said for w in _PERMANENT)):
        return "the database does not answer; try again"
    return None
