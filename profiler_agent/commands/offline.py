"""`profile --offline --out FILE` and `upload FILE`: a run without a server, and its way there later."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from profiler_agent.commands.profile import exit_code
from shared.errors import InvalidValue, LutnasError, ServerAway

if TYPE_CHECKING:
    from profiler_agent.profile.profile import ProfileRequest
    from profiler_agent.progress import Progress
    from profiler_agent.server.server_client import ServerClient
    from profiler_agent.spool.spool import Spool


def add_offline(profile: argparse.ArgumentParser) -> None:
    """Add the flags of `profile`."""
    profile.add_argument("--offline", action="store_true", help="without a server: needs --out, and onnx")
    profile.add_argument(
        "--out", type=Path, metavar="FILE", help="with --offline, where to write the run; a folder for several runs"
    )


def add_files(upload: argparse.ArgumentParser) -> None:
    """Add the files of `upload`."""
    upload.add_argument("files", type=Path, nargs="*", metavar="FILE", help="runs of `profile --offline`")
    upload.add_argument(
        "--force", action="store_true", help="ask for the tables of files even if some tasks are not measured"
    )


def where_to_write(arguments: argparse.Namespace) -> Path | None:
    """The file, or folder, of an offline profile; None for one with a server.

    Raises:
        InvalidValue: flags that do not go together.
    """
    out: Path | None = arguments.out
    if arguments.offline:
        if out is None:
            raise InvalidValue("--out", "is needed with --offline: the file to write, for example run.json")
        if arguments.server:
            raise InvalidValue("--server", "and --offline exclude each other")
    elif out is not None:
        raise InvalidValue("--out", "is for --offline alone: with a server, the run goes there")
    elif not arguments.server:
        raise InvalidValue("--server", "is needed: the lut-server's URL; or --offline --out FILE to do without")
    return out


def run_profile_offline(
    arguments: argparse.Namespace, request: ProfileRequest, spool: Spool, progress: Progress
) -> int:
    """Measure without a server; 1 if not everything could be measured."""
    from profiler_agent.profile.offline import profile_offline, run_files

    outcomes = profile_offline(request, spool, arguments.out, progress, arguments.memory_mb * 1_000_000)
    files = run_files(request.spaces, arguments.out)
    for outcome in outcomes:
        if outcome.problem is not None:
            print(f"profiler-agent: {outcome.problem}", file=sys.stderr)
            continue
        if not outcome.measured:
            print(
                "the file holds this run already (same device, plan, runtime and agent version); --new measures again"
            )
        print(f"run        {outcome.run_id}")
        if len(files) > 1:
            print(f"space      {outcome.space}")
        print(f"file       {files[outcome.space]}")
        for doubt in outcome.doubts:
            print(f"unstable   {doubt}")
        for problem in outcome.refused:
            progress.say(f"could not be measured: {problem}")
    handed_in = " ".join(str(files[outcome.space]) for outcome in outcomes if outcome.problem is None)
    if handed_in:
        print(f"upload     profiler-agent upload {handed_in} --server URL")
    return exit_code([outcome for outcome in outcomes if outcome.measured])


def upload_files(client: ServerClient, files: Sequence[Path], force: bool) -> int:
    """Hand in files; 1 if one of them could not be, or gave no table. One bad file does not hold up the others."""
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
