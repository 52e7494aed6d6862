"""Look after the job queue."""

from __future__ import annotations

import argparse

from lut_server.commands.options import add_store_command, existing_store
from shared.command_line import Commands, Parser, add_actions
from shared.jobs import JOB_STATES
from shared.tables.table_text import align


def add(commands: Commands[Parser]) -> None:
    actions = add_actions(commands, "jobs", f"{__doc__}\n\n    lut-server jobs list --state queued")
    listed = add_store_command(actions, "list", list_all)
    listed.add_argument("--device", metavar="NAME", help="of this device alone")
    listed.add_argument("--state", choices=JOB_STATES, help="in this state alone")
    add_store_command(actions, "cancel", cancel).add_argument("id", metavar="ID")
    add_store_command(actions, "requeue", requeue).add_argument("id", metavar="ID")


def list_all(arguments: argparse.Namespace) -> None:
    """List the jobs, the oldest first, with what keeps them.

    lut-server jobs list --state queued
    """
    with existing_store(arguments) as store:
        rows = [
            (
                queued.id,
                queued.job.device,
                queued.job.kind,
                queued.state,
                queued.job.priority,
                f"{queued.attempts}/{queued.max_attempts}",
                queued.created_at,
                queued.lease_owner or "",
                queued.reason or queued.notice or "",
            )
            for queued in store.jobs.list(arguments.device, arguments.state)
        ]
    print(align(("id", "device", "kind", "state", "priority", "attempts", "created", "held by", "note"), rows))


def cancel(arguments: argparse.Namespace) -> None:
    """Cancel a job that is not over.

    lut-server jobs cancel ID
    """
    with existing_store(arguments) as store:
        print(f"job {store.jobs.cancel(arguments.id).id} is cancelled")


def requeue(arguments: argparse.Namespace) -> None:
    """Queue a failed, dead or cancelled job again.

    lut-server jobs requeue ID
    """
    with existing_store(arguments) as store:
        print(f"job {store.jobs.requeue(arguments.id).id} is queued again")
