"""Connections, transactions and migrations.

SQLite runs in WAL mode, so that readers never wait for the writer. A transaction that will write takes the write lock
at its start: one that reads first and upgrades later fails at once, instead of waiting, when another wrote in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from shared.errors import InvalidValue, LutnasError, SchemaTooNew

BUSY_TIMEOUT_S = 30
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database by its URL, migrated to this code's schema when opened.

    Raises:
        InvalidValue: the URL is not one.
        SchemaTooNew: a newer lutnas migrated the database.
        LutnasError: it cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self.engine = _engine(self._url)
        try:
            self._migrate()
        except (LutnasError, DBAPIError) as error:
            self.engine.dispose()
            if isinstance(error, LutnasError):
                raise
            raise LutnasError(f"cannot open the database {self.name}: {error.orig}") from error

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent state."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, rolled back on an exception, alone while it lasts."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def revision(self) -> str:
        """Schema revision that the database is at."""
        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision() or "none"

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        script = ScriptDirectory.from_config(config)
        newest = script.get_current_head() or "0"
        with self.write() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
            if current is not None and current not in {one.revision for one in script.walk_revisions()}:
                raise SchemaTooNew(f"the database {self.name}", _number(current), _number(newest))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise InvalidValue("database_url", "is not an SQLAlchemy URL such as sqlite:///lutnas.db") from error


def _engine(url: URL) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite and url.database in (None, "", ":memory:"):
        raise InvalidValue("database_url", "a database in memory would forget every measurement; name a file")
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_S}} if is_sqlite else {}
    try:
        # The web framework's thread pool has 40 threads: no request waits for a connection.
        engine = create_engine(url, pool_size=8, max_overflow=40, **options)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise InvalidValue("database_url", f"no driver for '{url.drivername}' is installed") from error
    if is_sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver opens no transactions of its own; _begin_sqlite does
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _number(revision: str) -> int:
    return int(revision) if revision.isdigit() else 0
