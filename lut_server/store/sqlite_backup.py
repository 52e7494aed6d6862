"""Copies of a SQLite database: written while it is in use, put back while it is not."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from lut_server.store import schema
from lut_server.store.engines import make_private
from shared.errors import CorruptFile, LutnasError, WrongUse
from shared.wire import DATABASE_REVISION, require_schema

_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
"""The bytes that SQLite locks for as long as a connection in WAL mode is open (SQLite's os.h)."""


def backup_sqlite(source: Path, target: Path) -> None:
    """Copy a database that may be in use, by SQLite's own means: the copy is one moment's state.

    Its owner alone may read it.

    Raises:
        WrongUse: the copy would take the database's own place.
        LutnasError: the copy cannot be written.
    """
    _require_other(source, target)
    partial = target.with_name(target.name + ".part")
    try:
        partial.unlink(missing_ok=True)
        make_private(partial)
        with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(partial)) as there:
            here.backup(there)
            there.execute("PRAGMA journal_mode = DELETE")
        partial.replace(target)
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        raise LutnasError(f"cannot write {target}: {error}") from error


def restore_sqlite(source: Path, target: Path, replace: bool) -> None:
    """Put a backup in the place of a database that no server has open; that may be damaged.

    A symbolic link stays: the file that it leads to is replaced.

    Raises:
        WrongUse: a database is there, and it is not to be replaced; or it is the backup.
        LutnasError: it is in use, or cannot be written.
    """
    _require_other(source, target)
    target = Path(os.path.realpath(target))
    if target.exists():
        if not replace:
            raise WrongUse(f"{target} is there already; add --force to replace it")
        _require_unused(target)
    for ending in ("-wal", "-shm"):  # a log of the old database would be replayed into the new one
        target.with_name(target.name + ending).unlink(missing_ok=True)
    backup_sqlite(source, target)


def _require_other(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        raise WrongUse(f"{target} is both what is copied and where the copy goes; name another file")


def _require_unused(path: Path) -> None:
    """SQLite itself cannot tell of a damaged file."""
    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
    except OSError as error:
        raise LutnasError(
            f"{path} is in use, or not to be written: stop the server first ({error.strerror})"
        ) from error


def check_backup(path: Path) -> Path:
    """A backup that is whole.

    Raises:
        OtherSchema: another lutnas made it.
        CorruptFile: it is not a database of lutnas, or damaged.
    """
    if not path.is_file():
        raise WrongUse(f"there is no file {path}")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as backup:
            (verdict,) = backup.execute("PRAGMA integrity_check").fetchone()
            found = backup.execute("SELECT version_num FROM alembic_version").fetchone()
            columns = {
                table: [row[1] for row in backup.execute(f"PRAGMA table_info({table})")]
                for table in schema.metadata.tables
            }
    except sqlite3.Error as error:
        raise CorruptFile(f"{path} is no backup of lut-server: {error}") from error
    if verdict != "ok":
        raise CorruptFile(f"{path} is damaged: {verdict}")
    require_schema(f"the backup {path}", found[0] if found else None, DATABASE_REVISION)
    for table, needed in schema.metadata.tables.items():
        missing = {column.name for column in needed.columns} - set(columns[table])
        if missing:
            raise CorruptFile(
                f"{path} is no backup of lut-server: its table {table} lacks {', '.join(sorted(missing))}"
            )
    return path
