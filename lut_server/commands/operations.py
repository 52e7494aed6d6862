"""Copies, clean-up and schema of the database."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path

from lut_server.clock import stamp, utc_now
from lut_server.commands.options import add_store_command, chosen_settings, existing_store, opened_store
from lut_server.store.sqlite_backup import backup_sqlite, check_backup, restore_sqlite
from shared.command_line import Commands, Parser, within
from shared.errors import WrongUse


def add(commands: Commands[Parser]) -> None:
    backup = add_store_command(commands, "backup", copy_database)
    backup.add_argument("file", type=Path, metavar="FILE")
    restore = add_store_command(commands, "restore", restore_database)
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument("--force", action="store_true", help="replace a database that is there")
    vacuum = add_store_command(commands, "vacuum", drop_raw)
    vacuum.add_argument(
        "--keep-days",
        type=within(0, 100_000),
        required=True,
        metavar="N",
        help="of finished runs younger than this, all stays",
    )
    add_store_command(commands, "migrate", migrate)


def copy_database(arguments: argparse.Namespace) -> None:
    """Write a consistent copy of the SQLite database while it is in use.

    lut-server backup lutnas-backup.db
    """
    path = _sqlite_path(arguments)
    with existing_store(arguments) as store:
        backup_sqlite(path, arguments.file)
        print(f"{arguments.file} holds {store.database.name} as it was a moment ago")


def restore_database(arguments: argparse.Namespace) -> None:
    """Make the SQLite database what a backup holds; the server has to be down.

    lut-server restore lutnas-backup.db
    """
    restore_sqlite(check_backup(arguments.file), _sqlite_path(arguments), arguments.force)
    with opened_store(arguments) as store:
        print(f"{store.database.name} is what {arguments.file} holds, at schema {store.database.revision()}")


def drop_raw(arguments: argparse.Namespace) -> None:
    """Drop old raw repeats and give their room back.

    lut-server vacuum --keep-days 90
    """
    with existing_store(arguments) as store:
        runs, measurements = store.runs.drop_raw(stamp(utc_now() - timedelta(days=arguments.keep_days)))
        store.database.vacuum()
    print(
        f"{measurements} measurements of {runs} finished runs keep one value a round; every statistic stays as it was"
    )


def migrate(arguments: argparse.Namespace) -> None:
    """Make the tables of a new database without serving.

    lut-server migrate
    """
    with opened_store(arguments) as store:
        print(f"{store.database.name} is at schema {store.database.revision()}")


def _sqlite_path(arguments: argparse.Namespace) -> Path:
    path = chosen_settings(arguments).database_path
    if path is None:
        raise WrongUse(_POSTGRES)
    return path


_POSTGRES = (
    "backup and restore copy SQLite's file; for PostgreSQL use pg_dump and pg_restore, which know its users and its "
    "server, or `lut-server export --all` and `import`, whose archive either store takes"
)
