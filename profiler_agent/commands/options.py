"""Options of several commands: device, space, runtime, spool; and what is made from them."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler_agent.spool.spool import Spool, default_spool
from profiler_agent.timing.stopping import PRESETS
from shared.command_line import find_access, within
from shared.errors import InvalidValue
from shared.runtime import OPTIMISATION_LEVELS, PRECISIONS
from shared.spaces import make_space, parse_space

if TYPE_CHECKING:
    from profiler_agent.profile.profile import ProfileRequest
    from profiler_agent.progress import Progress
    from profiler_agent.server.server_client import ServerClient
    from shared.runtime import Runtime
    from shared.spaces import Space


def add_device(parser: argparse.ArgumentParser, text: str = "this device's name") -> None:
    """--device."""
    parser.add_argument("--device", required=True, metavar="NAME", help=text)


def add_preset(parser: argparse.ArgumentParser) -> None:
    """--preset."""
    parser.add_argument("--preset", choices=PRESETS, default="standard", help="how precise, how long (standard)")


def add_spool(parser: Any, keeps: bool = True) -> None:
    """--spool; `keeps`: the command measures into it, and the same command goes on from there."""
    parser.add_argument(
        "--spool", metavar="DIR", help="where measurements are kept (or LUTNAS_SPOOL; ~/.local/state/lutnas)"
    )
    if keeps:
        parser.set_defaults(when_interrupted=_how_to_go_on)


def add_spaces(parser: Any, required: bool = True) -> None:
    """--space, --resolution."""
    parser.add_argument(
        "--space",
        required=required,
        nargs="+",
        metavar="NAME",
        help="search spaces, for example nas-bench-201 darts, or whole strings such as own/HASH/...",
    )
    parser.add_argument(
        "--resolution",
        type=int,
        nargs="+",
        metavar="N",
        help="heights and widths of the input image, pixels; each space at each (default: the space's own)",
    )


def add_sizes(parser: Any) -> None:
    """Sizes of a space's skeleton."""
    for flags, text in (
        (("--channels",), "channels of the first stage"),
        (
            ("--depth", "--cells-per-stage"),
            "cells per stage (nas-bench-201), cells (darts), layers per stage (fbnet, mobile, nas-bench-macro)",
        ),
        (("--classes",), "classes of the classifier"),
        (("--image-channels",), "channels of the input image"),
    ):
        parser.add_argument(*flags, type=int, metavar="N", help=f"{text} (default: the space's own)")


def add_provider(parser: Any) -> None:
    """--provider."""
    parser.add_argument(
        "--provider",
        default="cpu",
        metavar="P",
        help="execution provider: cpu, openvino, webgpu, cuda, ... or its full name (cpu);"
        " `profiler-agent probe` lists those that are here",
    )


def add_runtime(parser: Any, precision_of: str = "weights and activations", batch: bool = True) -> None:
    """Runtime settings; all of them are part of a table's identity."""
    add_provider(parser)
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one inference (1)")
    if batch:
        parser.add_argument("--batch", type=int, default=1, metavar="N", help="images per inference (1)")
    if precision_of:
        parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=f"of {precision_of} (fp32)")
    parser.add_argument(
        "--optimisation", choices=OPTIMISATION_LEVELS, default="all", help="of graphs, by ONNX Runtime (all)"
    )


def add_plan(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What a profile measures; returns the group of advanced options."""
    add_device(parser)
    add_spaces(parser)
    add_preset(parser)
    parser.add_argument(
        "--new", action="store_true", help="begin anew: resume nothing, and measure even if the server has this table"
    )
    add_runtime(parser.add_argument_group("runtime"))
    advanced = parser.add_argument_group("advanced")
    add_sizes(advanced)
    for name, default, text in (
        ("calibration", 40, "networks measured for the fit"),
        ("held-out", 40, "networks measured to find the error of the fit"),
        ("seed", 0, "of the sampled networks"),
    ):
        advanced.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} ({default})")
    advanced.add_argument(
        "--seconds-per-task",
        type=within(0),
        metavar="S",
        help="stop with what is measured after so long (the preset's)",
    )
    add_spool(advanced)
    return advanced


def wanted_profile(arguments: argparse.Namespace) -> ProfileRequest:
    """The profile that `add_plan`'s options ask for."""
    from profiler_agent.profile.profile import ProfileRequest

    names = {field.name for field in dataclasses.fields(ProfileRequest)} & vars(arguments).keys()
    wanted = {name: getattr(arguments, name) for name in names}
    preset = PRESETS[arguments.preset]
    if arguments.seconds_per_task is not None:
        fewest = min(preset.min_rounds, PRESETS["quick"].min_rounds)  # they are taken whatever the time
        preset = dataclasses.replace(preset, seconds_per_task=arguments.seconds_per_task, min_rounds=fewest)
    return ProfileRequest(**{**wanted, "spaces": wanted_spaces(arguments), "preset": preset})


def wanted_spaces(arguments: argparse.Namespace) -> tuple[Space, ...]:
    """Every named space at every resolution, each once.

    Raises:
        UnknownName: no space has that name.
        InvalidValue: a parameter is outside its domain. With several spaces the message names the
            space.
    """
    several = len(arguments.space) > 1
    sizes = {name: getattr(arguments, name) for name in ("channels", "depth", "classes", "image_channels")}
    spaces: dict[Space, None] = {}
    for name in arguments.space:
        if "/" in name:
            spaces[parse_space(name)] = None
            continue
        for resolution in arguments.resolution or [None]:
            try:
                space = make_space(name, resolution=resolution, **sizes)
            except InvalidValue as error:
                raise InvalidValue(error.field, error.problem + (f" (space {name})" if several else "")) from error
            spaces[space] = None
    return tuple(spaces)


def wanted_runtime(arguments: argparse.Namespace) -> Runtime:
    """The runtime of `add_runtime`'s options; raises if this machine does not have it."""
    from profiler_agent.ort.sessions import local_runtime

    batch, precision = getattr(arguments, "batch", 1), getattr(arguments, "precision", "fp32")
    return local_runtime(arguments.threads, batch, arguments.provider, arguments.optimisation, precision)


def open_client(arguments: argparse.Namespace) -> ServerClient:
    """The client of the server that the options name."""
    from profiler_agent.server.server_client import ServerClient

    token, ca_file = find_access(arguments)
    return ServerClient(arguments.lut_url, token, ca_file=ca_file)


def spool_folder(arguments: argparse.Namespace) -> Path:
    """Where measurements are kept."""
    return Path(arguments.spool) if arguments.spool else default_spool()


def open_spool(arguments: argparse.Namespace) -> Spool:
    """The spool that the options name."""
    return Spool(spool_folder(arguments))


def make_progress() -> Progress:
    """On stderr: stdout is for results."""
    from profiler_agent.progress import Progress

    return Progress(say, sys.stderr.isatty())


def say(line: str) -> None:
    """A line that is no result."""
    print(line, file=sys.stderr, flush=True)


def _how_to_go_on(arguments: argparse.Namespace) -> str:
    again = "without --new, " if getattr(arguments, "new", False) else ""
    return f"; nothing measured is lost ({spool_folder(arguments)}): {again}the same command goes on from there"
