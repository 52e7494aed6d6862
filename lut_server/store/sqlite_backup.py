"""Copies of a SQLite database: written while it is in use, put back while it is not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from shared.errors import CorruptFile, LutnasError, WrongUse
from shared.wire import DATABASE_REVISION, require_schema


def backup_sqlite(source: Path, target: Path) -> None:
    """Copy a database that may be in use, by SQLite's own means: the copy is one moment's state.

    Raises:
        LutnasError: the copy cannot be written.
    """
    partial = target.with_name(target.name + ".part")
    try:
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(partial)) as there:
            here.backup(there)
            there.execute("PRAGMA journal_mode = DELETE")
        partial.replace(target)
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        raise LutnasError(f"cannot write {target}: {error}") from error


def restore_sqlite(source: Path, target: Path, replace: bool) -> None:
    """Put a backup in the place of a database that no server has open.

    Raises:
        WrongUse: a database is there, and it is not to be replaced.
        LutnasError: it is in use, or cannot be written.
    """
    if target.exists() and not replace:
        raise WrongUse(f"{target} is there already; add --force to replace it")
    try:
        if target.exists():
            with closing(sqlite3.connect(target, timeout=0, isolation_level=None)) as here:
                here.execute("PRAGMA locking_mode = EXCLUSIVE")
                here.execute("PRAGMA journal_mode = DELETE")  # fails while a server has it open
        backup_sqlite(source, target)
    except sqlite3.Error as error:
        raise LutnasError(f"{target} is in use: stop the server first ({error})") from error


def check_backup(path: Path) -> Path:
    """A backup that is whole.

    Raises:
        OtherSchema: another lutnas made it.
        CorruptFile: it is not a database of lutnas, or damaged.
    """
    if not path.is_file():
        raise WrongUse(f"there is no file {path}")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as backup:
            (verdict,) = backup.execute("PRAGMA integrity_check").fetchone()
            found = backup.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise CorruptFile(f"{path} is no backup of lut-server: {error}") from error
    if verdict != "ok":
        raise CorruptFile(f"{path} is damaged: {verdict}")
    require_schema(f"the backup {path}", found[0] if found else None, DATABASE_REVISION)
    return path
