"""What a command line asks of a search: its space, and that a run which goes on keeps what it was begun with."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from search.config import PRESETS, SETTINGS, Config, default_search_resolution
from search.data.class_folders import FOLDER
from search.own_model.model_file import parse_input
from search.process.progress import Progress
from search.runs.run_directory import RunDirectory
from shared.errors import InvalidValue, WrongUse
from shared.runtime import runtime_parts
from shared.spaces import SPACES, Own, parse_space
from shared.tables.table import LatencyTable

DEFAULT_PRESET, DEFAULT_SPACE, DEFAULT_DATASET = "standard", "nas-bench-201", "fashion-mnist"
SKELETON = ("resolution", "channels", "depth")
PARAMETERS = {"resolution": "r", "channels": "c", "depth": "n", "classes": "k", "image_channels": "i"}
"""Of a space, with their letters in its string form."""


def require_kept(args: argparse.Namespace, directory: RunDirectory, progress: Progress, whole: bool = False) -> None:
    """Check that a run goes on with the settings that it was begun with. A line says what it keeps without harm.

    Args:
        whole: whether what is not given asks for its default, as it does in a new run.

    Raises:
        WrongUse: something else is asked for.
    """
    config = directory.config
    if args.device is not None and set(args.device) != set(config.devices):
        begun, given = (" ".join(f"--device {name}" for name in sorted({*a})) for a in (config.devices, args.device))
        raise WrongUse(f"{args.out} was begun with {begun}, not {given}; a resumed run keeps its devices")
    advice = "choose another --out" if whole else "a resumed run keeps its settings"
    for flag, begun, asked in (*_other_ground(args, directory, whole), *_other_settings(args, config, whole)):
        if (flag, begun, asked) == ("--dataset", "digits", DEFAULT_DATASET) or flag == "--threads":
            progress.line(f"the run keeps its {flag} {begun}")  # digits stand in where the others cannot be had
        elif begun is None:
            raise WrongUse(f"{args.out} was begun without {flag}; {advice}")
        else:
            raise WrongUse(f"{args.out} was begun with {flag} {begun}, not {asked}; {advice}")


def _other_ground(args: argparse.Namespace, directory: RunDirectory, whole: bool) -> Iterator[tuple[str, Any, str]]:
    """Model, space, images and table that are asked for and are not the run's: option, the run's, what is asked for."""
    config, space = directory.config, directory.space
    dataset, resolution = args.dataset, args.search_resolution
    if whole:
        dataset = dataset or (None if args.model else DEFAULT_DATASET)
        default = space.resolution if config.model else default_search_resolution(space.resolution)
        resolution = resolution or default
    if args.model and (model := full_model(args.model)) != config.model:
        yield "--model", config.model, model
    elif config.model is None:
        parameters = asked_space(args)
        if args.space is None and not whole:
            del parameters["name"]
        for name, value in parameters.items():
            if getattr(space, name) != value:
                by_flag = name in SKELETON and getattr(args, name) is not None
                yield "--space", config.space, f"{flag_of(name)} {value}" if by_flag else args.space or DEFAULT_SPACE
    elif args.space or (whole and not args.model):
        yield "--model", config.model, f"--space {args.space or DEFAULT_SPACE}"
    elif args.input and parse_input(args.input) != space.input_shape:
        yield "--input", space.input_shape, args.input
    for flag, begun, asked in (
        ("--dataset", config.dataset, dataset and _full_dataset(dataset)),
        ("--data-dir", config.data_dir, args.data_dir and str(args.data_dir.resolve())),
        ("--search-resolution", config.search_resolution, resolution),
        ("--lut-url", config.lut_url, args.lut_url),
    ):
        if asked is not None and asked != begun:
            yield flag, begun, asked
    for table in directory.tables:
        if not {*(args.runtime or "").strip("/").split("/")} - {""} <= runtime_parts(str(table.runtime)):
            yield "--runtime", table.runtime, args.runtime


def _other_settings(args: argparse.Namespace, config: Config, whole: bool) -> Iterator[tuple[str, Any, str]]:
    """Settings that are asked for and are not the run's: option, the run's, what is asked for."""
    preset = args.preset or DEFAULT_PRESET
    for name, (default, _) in SETTINGS.items():
        asked, said = getattr(args, name), ""
        if asked is None and any(name in settings for settings in PRESETS.values()):
            if whole or args.preset:
                asked, said = PRESETS[preset].get(name, default), f" of --preset {preset}"
        elif asked is None and whole and name not in ("precision", "threads"):
            asked = default
        if asked not in (None, "auto", getattr(config, name)):
            yield flag_of(name), getattr(config, name), f"{asked}{said}"


def asked_space(args: argparse.Namespace) -> dict[str, str | int]:
    """The parameters of the space that were given, by name."""
    named = args.space or DEFAULT_SPACE
    asked: dict[str, str | int] = {"name": named.partition("/")[0]}
    if asked["name"] == Own.name:
        raise WrongUse(f"{named} is of your own model: search --model FILE.py:FUNCTION --input CxHxW")
    if "/" in named:
        space = parse_space(named)
        asked |= {name: getattr(space, name) for name in PARAMETERS}
    elif named not in SPACES:
        parse_space(f"{named}/r32/c16/n5/k10/i3")  # says which spaces there are
    asked |= {name: getattr(args, name) for name in SKELETON if getattr(args, name) is not None}
    return asked


def space_prefix(asked: dict[str, str | int]) -> str:
    """The string form NAME/rN/cN/nN/kN/iN up to the first parameter that is missing."""
    known = takewhile(asked.__contains__, PARAMETERS)
    return "/".join([str(asked["name"]), *(f"{PARAMETERS[name]}{asked[name]}" for name in known)])


def check_space(table: LatencyTable, asked: dict[str, str | int]) -> None:
    """Raise InvalidValue unless the table is of the space that was asked for."""
    for name, value in asked.items():
        found = getattr(table.parsed_space, name)
        if found != value:
            raise InvalidValue(
                "space" if name == "name" else name.replace("_", "-"),
                f"asked for {value}, the table of {table.device} has {found} ({table.space});"
                f" {table.advise(**{name: value})}",
            )


def full_model(where: str) -> str:
    """FILE.py:FUNCTION, with the file's whole path."""
    file, _, function = where.rpartition(":")
    return f"{Path(file).resolve()}:{function}"


def _full_dataset(name: str) -> str:
    """The name as an image set has it: a folder's with its whole path."""
    if not name.startswith(FOLDER):
        return name
    return f"{FOLDER}{Path(os.path.expanduser(name.removeprefix(FOLDER))).resolve()}"  # noqa: PTH111


def flag_of(name: str) -> str:
    """The option of a setting."""
    return "--" + name.replace("_", "-")
