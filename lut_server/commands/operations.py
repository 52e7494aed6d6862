"""Commands of whoever runs the server: jobs, backup and restore, vacuum, migrations."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from lut_server.clock import stamp, utc_now
from lut_server.settings import Settings
from lut_server.store.database import Database
from lut_server.store.sql import open_store
from lut_server.store.sqlite_backup import backup_sqlite, check_backup, restore_sqlite
from shared.errors import InvalidValue, WrongUse
from shared.jobs import JOB_STATES
from shared.tables.table_text import align

Add = Callable[..., argparse.ArgumentParser]


def add_operations(commands: Any, add: Add) -> None:
    """Add the commands to the parser."""
    jobs = commands.add_parser("jobs", help="look after the job queue").add_subparsers(required=True, metavar="ACTION")
    listed = add(jobs, "list", "list the jobs, the oldest first, with what keeps them", _jobs_list)
    listed.add_argument("--device", help="of one device alone")
    listed.add_argument("--state", choices=JOB_STATES, help="in one state alone")
    add(jobs, "cancel", "cancel a job that is not over", _jobs_cancel).add_argument("id")
    add(jobs, "requeue", "queue a failed, dead or cancelled job again", _jobs_requeue).add_argument("id")
    backup = add(commands, "backup", "write a consistent copy of the SQLite database while it is in use", _backup)
    backup.add_argument("file", type=Path, metavar="FILE")
    restore = add(
        commands, "restore", "make the SQLite database what a backup holds; the server has to be down", _restore
    )
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument("--force", action="store_true", help="replace a database that is there")
    vacuum = add(commands, "vacuum", "drop old raw repeats and give their room back", _vacuum)
    vacuum.add_argument("--keep-days", type=float, required=True, help="of finished runs younger than this, all stays")
    add(commands, "migrate", "make the tables of a new database without serving", _migrate)


def _jobs_list(arguments: argparse.Namespace, settings: Settings) -> None:
    with closing(open_store(settings.database_url)) as store:
        jobs = store.jobs.list(arguments.device, arguments.state)
    rows = [
        (
            one.id,
            one.job.device,
            one.job.kind,
            one.state,
            one.job.priority,
            f"{one.attempts}/{one.max_attempts}",
            one.created_at,
            one.lease_owner or "",
            one.reason or one.notice or "",
        )
        for one in jobs
    ]
    print(align(("id", "device", "kind", "state", "priority", "attempts", "created", "held by", "note"), rows))


def _jobs_cancel(arguments: argparse.Namespace, settings: Settings) -> None:
    with closing(open_store(settings.database_url)) as store:
        print(f"job {store.jobs.cancel(arguments.id).id} is cancelled")


def _jobs_requeue(arguments: argparse.Namespace, settings: Settings) -> None:
    with closing(open_store(settings.database_url)) as store:
        print(f"job {store.jobs.requeue(arguments.id).id} is queued again")


def _backup(arguments: argparse.Namespace, settings: Settings) -> None:
    with closing(open_store(settings.database_url)) as store:
        backup_sqlite(_sqlite_path(store.database), arguments.file)
        print(f"{arguments.file} holds {store.database.name} as it was a moment ago")


def _restore(arguments: argparse.Namespace, settings: Settings) -> None:
    restore_sqlite(check_backup(arguments.file), _path_of(settings), arguments.force)
    with closing(open_store(settings.database_url)) as store:
        print(f"{store.database.name} is what {arguments.file} holds, at schema {store.revision()}")


def _vacuum(arguments: argparse.Namespace, settings: Settings) -> None:
    if not 0 <= arguments.keep_days <= 100_000:
        raise InvalidValue("keep-days", f"{arguments.keep_days} is not within 0 to 100000")
    with closing(open_store(settings.database_url)) as store:
        runs, measurements = store.runs.drop_raw(stamp(utc_now() - timedelta(days=arguments.keep_days)))
        store.database.vacuum()
    print(
        f"{measurements} measurements of {runs} finished runs keep one value a round; every statistic stays as it was"
    )


def _migrate(arguments: argparse.Namespace, settings: Settings) -> None:
    with closing(open_store(settings.database_url)) as store:
        print(f"{store.database.name} is at schema {store.revision()}")


def _path_of(settings: Settings) -> Path:
    prefix = "sqlite:///"
    if not settings.database_url.startswith(prefix):
        raise WrongUse(_POSTGRES)
    return Path(settings.database_url.removeprefix(prefix))


def _sqlite_path(database: Database) -> Path:
    if database.path is None:
        raise WrongUse(_POSTGRES)
    return database.path


_POSTGRES = (
    "backup and restore copy SQLite's file; for PostgreSQL use pg_dump and pg_restore, which know its users and its "
    "server, or `lut-server export --all` and `import`, whose archive either store takes"
)
