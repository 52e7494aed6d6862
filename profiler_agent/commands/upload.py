"""Hand in what is spooled, or what `profile --offline` wrote into files.

profiler-agent upload run.json --lut-url http://server:8700
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from profiler_agent.commands.options import add_spool, open_client, open_spool
from shared.command_line import Commands, Parser, add_command, add_server
from shared.errors import LutnasError, ServerAway

if TYPE_CHECKING:
    from profiler_agent.server.server_client import ServerClient


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "upload", run, __doc__)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="runs of `profile --offline`")
    add_server(parser, "agent")
    parser.add_argument(
        "--force", action="store_true", help="ask for the tables of files even if some tasks are not measured"
    )
    add_spool(parser)


def run(arguments: argparse.Namespace) -> int:
    """Hand in; 1 if not all of it was complete."""
    from profiler_agent.server.upload import Uploader, upload_everything

    with open_client(arguments) as client:
        if arguments.files:
            return _upload_files(client, arguments.files, arguments.force)
        complete = upload_everything(open_spool(arguments), Uploader(client), "upload", print)
    return 0 if complete else 1


def _upload_files(client: ServerClient, files: Sequence[Path], force: bool) -> int:
    """Hand in files; 1 if a file was refused or gave no table. A bad file stops no other."""
    from profiler_agent.profile.offline import upload_file
    from profiler_agent.spool.run_file import read_run_file

    complete = True
    for path in files:
        try:
            recorded = read_run_file(path)
            table = upload_file(client, recorded, force)
        except ServerAway:
            raise
        except LutnasError as error:
            where = "" if str(path) in str(error) else f"{path}: "
            print(f"profiler-agent: {where}{error}", file=sys.stderr)
            complete = False
            continue
        print(f"run {recorded.run.id}: uploaded {len(recorded.measurements)} measurements")
        if table is None:
            missing, tasks = len(recorded.missing_tasks()), len(recorded.plan.tasks)
            print(f"run {recorded.run.id}: {missing} of {tasks} tasks are not measured: no table")
            complete = False
        else:
            print(f"run {recorded.run.id}: table {table['hash']}")
    return 0 if complete else 1
