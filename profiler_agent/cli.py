"""The command line of the profiler agent."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from profiler_agent.commands.adb import add_phone
from profiler_agent.commands.compare import add_compare
from profiler_agent.commands.doctor import add_doctor
from profiler_agent.commands.enrol import add_enrol
from profiler_agent.commands.offline import add_files, add_offline, run_profile_offline, upload_files, where_to_write
from profiler_agent.commands.predict import add_own_files
from profiler_agent.commands.profile import add_sizes, add_spaces, report_tables, wanted_spaces
from profiler_agent.commands.runtime import add_optimisation, add_precision, add_provider
from profiler_agent.commands.server import add_access, open_client
from profiler_agent.commands.upload import add_spooled, check_spooled, run_profile_spooled
from profiler_agent.interrupts import Interrupted, interruptible
from profiler_agent.spool.spool import default_spool
from profiler_agent.timing.stopping import BOUND_PERCENT, PRESETS
from shared import __version__
from shared.errors import LutnasError

Command = Callable[[argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong use, 130 or 143 interrupted."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        with interruptible():
            return command(arguments)
    except LutnasError as error:
        print(f"profiler-agent: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as error:
        print(f"profiler-agent: stopped by {error}{_how_to_go_on(arguments)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader went away (`| head`). What Python flushes at exit must not complain about that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _how_to_go_on(arguments: argparse.Namespace) -> str:
    if arguments.command is run_probe or getattr(arguments, "stateless", False):
        return ""
    again = "without --new, " if getattr(arguments, "new", False) else ""
    return f"; nothing measured is lost ({_spool_folder(arguments)}): {again}the same command goes on from there"


def run_probe(arguments: argparse.Namespace) -> int:
    """`probe`: what this device is."""
    from profiler_agent.host.probe import probe

    found = probe()
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:15s} {value}")
    return 0


def run_profile(arguments: argparse.Namespace) -> int:
    """`profile`: make the device's latency tables."""
    from profiler_agent.profile.profile import Profiler, ProfileRequest
    from profiler_agent.profile.status_report import StatusBoard, reporting
    from profiler_agent.progress import Progress
    from profiler_agent.spool.spool import Spool

    request = ProfileRequest(
        arguments.device,
        wanted_spaces(arguments),
        arguments.calibration,
        arguments.held_out,
        arguments.seed,
        arguments.threads,
        arguments.batch,
        arguments.precision,
        PRESETS[arguments.preset],
        arguments.new,
        arguments.force,
        arguments.bound_percent,
        arguments.provider,
        arguments.optimisation,
    )
    progress, most_bytes = Progress(_say, sys.stderr.isatty()), arguments.memory_mb * 1_000_000
    if arguments.spooled:
        check_spooled(arguments)
        return run_profile_spooled(request, Spool(_spool_folder(arguments)), progress, most_bytes)
    if where_to_write(arguments) is not None:
        return run_profile_offline(arguments, request, Spool(_spool_folder(arguments)), progress)
    board = StatusBoard()
    with open_client(arguments) as client:
        spool = Spool(_spool_folder(arguments))
        profiler = Profiler(client, spool, progress, most_bytes=most_bytes, board=board)
        with reporting(client, arguments.device, board):
            outcomes = profiler.profile(request)
        return report_tables(outcomes, client, arguments.device, _say)


def run_work(arguments: argparse.Namespace) -> int:
    """`work`: do the server's jobs."""
    from profiler_agent.ort.sessions import local_runtime
    from profiler_agent.progress import Progress
    from profiler_agent.spool.spool import Spool
    from profiler_agent.worker import Worker
    from shared.measurements.measurement import check_device_name

    check_device_name(arguments.device)
    local_runtime(provider=arguments.provider)  # said now, not when the first job fails
    spool, progress = Spool(_spool_folder(arguments)), Progress(_say, sys.stderr.isatty())
    with open_client(arguments) as client:
        worker = Worker(client, spool, progress, arguments.device, PRESETS[arguments.preset], arguments.poll_s)
        worker.run(arguments.once, arguments.idle_exit_s)
    return 0


def run_upload(arguments: argparse.Namespace) -> int:
    """`upload`: hand in what is spooled, or what `profile --offline` wrote."""
    from profiler_agent.server.upload import Uploader, upload_everything
    from profiler_agent.spool.spool import Spool

    with open_client(arguments) as client:
        if arguments.files:
            return upload_files(client, arguments.files, arguments.force)
        complete = upload_everything(Spool(_spool_folder(arguments)), Uploader(client), "upload", print)
    return 0 if complete else 1


def _spool_folder(arguments: argparse.Namespace) -> Path:
    return Path(arguments.spool) if arguments.spool else default_spool()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="profiler-agent", description="Measures how long neural-network ops and networks take on this device."
    )
    parser.add_argument("--version", action="version", version=f"lutnas {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    probe = commands.add_parser("probe", help="show what this device is: processor, clock, memory, ONNX Runtime")
    probe.add_argument("--json", action="store_true", help="as one JSON object")
    probe.set_defaults(command=run_probe)

    profile = commands.add_parser("profile", help="make this device's latency tables")
    _add_server(profile, required=False)
    add_offline(profile)
    add_spooled(profile)
    _add_device(profile)
    _add_plan(profile)
    add_provider(profile)
    add_optimisation(profile)
    profile.add_argument(
        "--new", action="store_true", help="begin anew: resume nothing, and measure even if the server has this table"
    )
    profile.add_argument(
        "--force", action="store_true", help="ask for the table even if some graphs could not be measured"
    )
    profile.add_argument(
        "--memory-mb",
        type=_whole,
        default=0,
        metavar="MB",
        help="for graphs that stay open between their rounds, which saves time (0: none does)",
    )
    profile.set_defaults(command=run_profile)

    phone = commands.add_parser("adb", help="make the latency tables of a phone that is connected by USB")
    _add_server(phone)
    _add_device(phone)
    _add_plan(phone)
    add_provider(phone)
    add_optimisation(phone)
    add_phone(phone)

    work = commands.add_parser("work", help="do the server's jobs for this device")
    _add_server(work)
    _add_device(work)
    add_provider(work)
    work.add_argument("--once", action="store_true", help="do what is queued now, then exit")
    work.add_argument(
        "--poll-s", type=_positive, default=2.0, metavar="S", help="seconds between questions for a job (2)"
    )
    work.add_argument("--idle-exit-s", type=_positive, metavar="S", help="exit after this long without a job")
    work.set_defaults(command=run_work)

    upload = commands.add_parser("upload", help="hand in what is spooled, or what is in files")
    _add_server(upload)
    add_files(upload)
    upload.set_defaults(command=run_upload)
    add_enrol(commands)
    add_own_files(commands)
    add_doctor(commands)
    add_compare(commands)
    return parser


def _add_server(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--server", required=required, metavar="URL", help="the lut-server, for example http://host:8000"
    )
    add_access(parser)
    parser.add_argument(
        "--spool", metavar="DIR", help="where measurements are kept (or LUTNAS_SPOOL; ~/.local/state/lutnas)"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", required=True, metavar="NAME", help="this device's name")
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), default="standard", help="how precise, how long (standard)"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    add_spaces(parser)
    add_sizes(parser)
    for name, default, text in (
        ("threads", 1, "threads of one inference"),
        ("batch", 1, "images per inference"),
        ("calibration", 40, "networks measured for the fit"),
        ("held-out", 40, "networks measured to find the error of the fit"),
        ("seed", 0, "of the sampled networks"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} ({default})")
    add_precision(parser, "of weights and activations")

    parser.add_argument(
        "--bound-percent",
        type=_percent,
        default=BOUND_PERCENT,
        metavar="P",
        help="choose networks on the way, enough of them once the 95 %% bound is P %% wide; "
        f"0: all of --calibration ({BOUND_PERCENT:g})",
    )


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1000:
        raise argparse.ArgumentTypeError(f"{text} is not a width in percent, from 0 up")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
