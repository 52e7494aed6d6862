"""Search a family of networks for a device, or for each of several (the default).

    search run --device rpi4 --lut-url http://server:8700 --out runs/rpi4

`run` may be left out. The search pulls the latency tables, trains a supernet and a hypernetwork,
and ranks the families. Everything goes into a single folder (--out). After an interruption
`search --resume --out DIR` goes on. Several processes share a search:
torchrun --nproc-per-node 2 -m search --device D --lut-url URL ...
"""

from __future__ import annotations

import argparse
import math
import shlex
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from search.alphas.condition import device_simplex
from search.commands.asked import (
    DEFAULT_DATASET,
    DEFAULT_PRESET,
    DEFAULT_SPACE,
    SKELETON,
    asked_space,
    check_space,
    flag_of,
    full_model,
    require_kept,
    space_prefix,
)
from search.commands.server import connect
from search.config import KINDS, PRESETS, SETTINGS, Config, default_search_resolution, references
from search.data import ImageSet, load_images
from search.data.class_folders import FOLDER
from search.data.own_loaders import find_own_images
from search.data.sources import DATASETS
from search.deploy.ladder import LADDER_FILE, find_ladder
from search.deploy.upload_result import post_result
from search.device.kernel_counts import CountKernels, no_counts
from search.device.own_table import get_own_table
from search.family.build import build_families
from search.family.family import FamilySettings
from search.family.reach import describe_reach
from search.own_model.examine import OwnModel, examine
from search.own_model.model_file import find_loss, load_model, parse_input
from search.process.distributed import Ranks, joined_ranks
from search.process.interruption import stop_on_signals
from search.process.progress import Progress, SilentProgress, make_progress
from search.report import build_report
from search.runs.environment import record_environment
from search.runs.run_directory import RunDirectory, new_supernet, on_every_device, require_fp32, require_one_space
from search.training.gradients import ALONE
from search.training.precision import choose_precision
from search.training.tensorboard import TensorBoardLog
from search.training.training import Trainer, place_of
from shared.atomic_files import write_atomically
from shared.command_line import Commands, Parser, add_command, add_server, within
from shared.errors import InvalidValue, Stopped, WrongUse, in_one_line
from shared.runtime import check_device_name
from shared.spaces import Own, Space
from shared.spaces.op_key import Shape
from shared.tables.table import CONFIDENCE, LatencyTable

CHOICES = {**KINDS, "precision": ("auto", *KINDS["precision"])}


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "run", run, __doc__)
    parser.usage = "search [run] --device NAME --lut-url URL [option ...]"
    add_arguments(parser)


def add_arguments(parser: Parser, with_budgets: bool = True) -> None:
    """The options of a search, among them every setting of `search.config`."""
    parser.add_argument(
        "--device", action="append", metavar="NAME", help="whose latency table to search for; give it again for more"
    )
    parser.add_argument(
        "--dataset",
        help=f"{', '.join(DATASETS)}: PATH holds one folder of images per class"
        f" (default: make_data() beside --model, else {DEFAULT_DATASET})",
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="with the files of a known data set")
    parser.add_argument("--preset", choices=PRESETS, help=f"length of the search (default: {DEFAULT_PRESET})")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (default: runs/DEVICES-DATASET)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--model", metavar="FILE.py:FUNCTION", help="your own model with choices, instead of --space")
    parser.add_argument("--input", metavar="CxHxW", help="with --model: shape of an image, for example 3x96x96")
    if with_budgets:
        text = "stop the training after so long, and build the family of what is trained"
        parser.add_argument("--seconds", type=within(0), default=math.inf, metavar="S", help=text)
        text = "most networks to score for the family, and as many for its baseline (default: %(default)s)"
        most = FamilySettings.candidates
        parser.add_argument("--candidates", type=within(1, kind=int), default=most, metavar="N", help=text)
        text = "budgets that the space has to meet; a pick may ask for any other"
        parser.add_argument("--max-latency-ms", type=float, nargs="+", metavar="X", help=text)
    add_server(parser, "search, where reads need one", required=False)
    table = parser.add_argument_group("table")
    table.add_argument("--space", help=f"name or string form of the space (default: {DEFAULT_SPACE})")
    for name in SKELETON:
        aliases = ("--cells-per-stage",) if name == "depth" else ()
        table.add_argument(
            flag_of(name), *aliases, type=int, metavar="N", help="of the space; by default whatever the table has"
        )
    table.add_argument(
        "--runtime",
        help="of the table, or parts of it such as CUDAExecutionProvider/threads=1; default: the newest table's",
    )
    advanced = parser.add_argument_group("advanced")
    advanced.add_argument("--skip-broken", action="store_true", help="leave out images of a folder that cannot be read")
    advanced.add_argument("--tensorboard", action="store_true", help="curves and histograms in tensorboard/ of the run")
    advanced.add_argument(
        "--search-resolution", type=int, metavar="N", help="side that images are pooled to (default: half from 32 on)"
    )
    for name, (default, help_text) in SETTINGS.items():
        choices = CHOICES.get(name)
        shown = "auto: the faster one" if name == "precision" else str(default)
        shown = f"by preset, {shown}" if any(name in preset for preset in PRESETS.values()) else shown
        advanced.add_argument(
            flag_of(name),
            type=type(default),
            choices=choices,
            metavar=None if choices else "X",
            help=f"{help_text} (default: {shown})",
        )


def run(args: argparse.Namespace) -> None:
    """Search, or go on with a search, and build the families."""
    console = Console()
    with joined_ranks() as ranks:
        progress = make_progress(console) if ranks.is_first else SilentProgress()
        directory = _train(args, ranks, progress)
    if not ranks.is_first:
        return
    with connect(directory.config.lut_url, args) as client:
        effort = FamilySettings(candidates=args.candidates, whole_space=directory.config.whole_space)
        build_families(directory, progress, effort)
        for view in on_every_device(directory):
            report = view.folder / "report.html"
            write_atomically(report, build_report(view).encode())
            post_result(client, view, find_ladder(view.folder / LADDER_FILE, view.space) or (), progress.line)
            which = f" --device {view.table.device}" if len(directory.tables) > 1 else ""
            pick = f"search pick --run {shlex.quote(str(directory.path))}{which} --max-latency-ms X"
            progress.line(f"the report: {report}; a member: {pick}")


def _train(args: argparse.Namespace, ranks: Ranks, progress: Progress) -> RunDirectory:
    """Train to the end in all processes; the first process makes or opens the folder."""
    if ranks.is_first:
        directory, images = resume_run(args, progress) if args.resume else begin_run(args, progress, ranks)
        ranks.from_first(str(directory.path))
    else:
        directory = RunDirectory.open(Path(ranks.from_first(None)))
        images = directory.load_images()
    with stop_on_signals() as stopped:
        trainer = Trainer(directory, images, ranks)
        if trainer.step:
            progress.line(f"going on after step {trainer.step} of {trainer.config.total_steps}")
        if ranks.is_first:
            for change in record_environment(directory.path, trainer.step, ranks.count):
                progress.line(f"{change}: numbers may differ from those of an uninterrupted search")
        log = TensorBoardLog(directory.path, trainer.step) if args.tensorboard and ranks.is_first else None
        ends_s = time.monotonic() + args.seconds
        complete = trainer.train(progress, lambda: stopped() or time.monotonic() >= ends_s, log)
        if log is not None:
            log.close()
    if not complete:
        told = f"after step {trainer.step} of {trainer.config.total_steps}, everything is saved;"
        go_on = f"go on with: search --resume --out {shlex.quote(str(directory.path))}"
        if ranks.any(stopped()):  # each process has a clock of its own
            raise Stopped(f"stopped {told} {go_on}")
        progress.line(f"time is up {told} the family is that of these weights; {go_on}")
    return directory


def begin_run(args: argparse.Namespace, progress: Progress, ranks: Ranks = ALONE) -> tuple[RunDirectory, ImageSet]:
    """A new run directory at --out with config, tables and the record of the images.

    Raises:
        WrongUse: an option is missing, or --out holds a run.
        LutnasError: a table or the images cannot be had, or do not fit; or training could not begin.
    """
    if not args.device or not args.lut_url:
        raise WrongUse("a search needs --device and --lut-url (or --resume with --out)")
    out = args.out or Path("runs") / f"{'+'.join(sorted(args.device))}-{default_title(args)}"
    if (out / "config.json").exists():
        raise WrongUse(
            f"{out} already holds a run: go on with it (--resume --out {shlex.quote(str(out))}) or choose another --out"
        )
    require_trainable(args, ranks)
    own = _open_own(args, progress) if args.model else None
    # What is wrong with them is said before anything is measured.
    images = find_own_images(args.model, own.input_shape, own.classes) if own and args.dataset is None else None
    tables = _fetch_tables(args, own, progress)
    space = tables[0].parsed_space
    for table in tables:
        progress.line(f"table {table.hash[:12]} of {table.device}: {space}, {table.runtime}")
        confidence = CONFIDENCE if args.confidence is None else args.confidence
        progress.line(describe_reach(table, args.max_latency_ms or (), confidence, _kept_counts(args, table)))
    warn, skip = progress.line, args.skip_broken
    dataset = args.dataset or DEFAULT_DATASET
    images = images or load_images(
        dataset, space.resolution, space.image_channels, args.data_dir, warn=warn, skip_broken=skip
    )
    check_images(images, tables[0])
    progress.line(f"{images.title}: {len(images.train_labels)} training images, {len(images.test_labels)} test images")
    config = make_config(args, tables, images, progress, own)
    if own is None:
        require_pixels(config, space)
    return RunDirectory.create(out, config, *tables, images=images), images


def require_trainable(args: argparse.Namespace, ranks: Ranks) -> None:
    """Raise what the training would, before anything is fetched or written.

    Raises:
        InvalidValue: the processes do not divide the paths or conditions of a step.
        WrongUse: there is no CUDA device.
        LutnasError: TensorBoard is not installed.
    """
    for name in ("paths_per_step", "conditions_per_step"):
        given = getattr(args, name)
        ranks.check_divides(name.replace("_", "-"), SETTINGS[name][0] if given is None else given)
    place_of(args.processor or Config.processor)
    if args.tensorboard:
        with TemporaryDirectory() as folder:
            TensorBoardLog(Path(folder), 0).close()


def require_pixels(config: Config, space: Space) -> None:
    """Compute every op once, with as few images as an update has.

    Raises:
        InvalidValue: a map of so small an image has no pixel left, or one, of a single image.
    """
    fewest, side = min(2, config.batch_size, config.alpha_batch_size), config.search_resolution
    supernet = new_supernet(config, space)
    gates = torch.full((len(space.slots), len(space.slots[0].primitives)), 1.0)
    try:
        with torch.no_grad():
            supernet(torch.zeros(fewest, space.image_channels, side, side), gates)
    except (RuntimeError, ValueError) as error:
        field = "search-resolution" if fewest > 1 else "batch-size"
        least = f"{side} pixels are too few" if fewest > 1 else f"1 is too few at {side} pixels"
        raise InvalidValue(field, f"{least} for {space}: {in_one_line(error)}") from error


def resume_run(args: argparse.Namespace, progress: Progress) -> tuple[RunDirectory, ImageSet]:
    """The run at --out and its images.

    Raises:
        WrongUse: a setting is given that differs from the run's.
    """
    if args.out is None:
        raise WrongUse("--resume needs --out: the folder of the run to go on with")
    directory = RunDirectory.open(args.out)
    require_kept(args, directory, progress)
    return directory, directory.load_images()


def make_config(
    args: argparse.Namespace,
    tables: Sequence[LatencyTable],
    images: ImageSet,
    progress: Progress,
    own: OwnModel | None = None,
) -> Config:
    """The config of a new run: defaults, overridden by the preset, overridden by options."""
    space = tables[0].parsed_space
    settings: dict[str, Any] = dict(PRESETS[args.preset or DEFAULT_PRESET])
    settings |= {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    search_resolution = args.search_resolution or default_search_resolution(space.resolution)
    precision = settings.pop("precision", "auto")
    if own is not None:  # which sides and types it takes beside its own, only its author knows
        search_resolution = args.search_resolution or space.resolution
        if search_resolution != space.resolution:
            examine(own.model, Shape(space.image_channels, search_resolution, search_resolution))
        precision = "fp32" if precision == "auto" else precision
        settings |= {"model": full_model(args.model), "choices": own.names}
        settings["loss"] = loss.mark if (loss := find_loss(args.model, own.classes)) else None
    config = Config(
        tables=references(tables),
        lut_url=args.lut_url,
        space=tables[0].space,
        dataset=images.name,
        data_dir=str(args.data_dir.resolve()) if args.data_dir else None,
        data_fingerprint=images.fingerprint,
        search_resolution=search_resolution,
        **settings,
    )
    if precision == "auto":
        precision = choose_precision(space, search_resolution, config.batch_size, progress.line)
    return Config(**{**vars(config), "precision": precision})


def check_images(images: ImageSet, table: LatencyTable) -> None:
    """Raise InvalidValue unless the table's space has as many classes as the images."""
    space, classes = table.parsed_space, len(images.preprocessing.class_names)
    if classes != space.classes and isinstance(space, Own):
        raise InvalidValue("dataset", f"{images.title} has {classes} classes, the model gives {space.classes} logits")
    if classes != space.classes:
        raise InvalidValue(
            "dataset",
            f"{images.title} has {classes} classes, the table's space {space} has {space.classes};"
            f" {table.advise(classes=classes)}",
        )


def default_title(args: argparse.Namespace) -> str:
    """Part of the default folder's name; a folder of images gives its own name, a model its file's."""
    if args.dataset is None and args.model:
        return Path(args.model.rpartition(":")[0]).stem
    dataset = args.dataset or DEFAULT_DATASET
    return Path(dataset.removeprefix(FOLDER)).resolve().name if dataset.startswith(FOLDER) else dataset


def _open_own(args: argparse.Namespace, progress: Progress) -> OwnModel:
    """The user's own model; what it makes is said.

    Raises:
        WrongUse: --input is missing, or a space is named too.
        InvalidValue: something is wrong with the model.
    """
    if args.input is None:
        raise WrongUse("--model needs --input: the shape of an image, for example --input 3x96x96")
    if args.space is not None or any(getattr(args, name) is not None for name in SKELETON):
        raise WrongUse("--model is a space of its own: leave --space, --resolution, --channels and --depth away")
    own = examine(load_model(args.model), parse_input(args.input))
    find_loss(args.model, own.classes)  # says what is wrong with it
    progress.line(f"{args.model}: {own.networks:,} networks of {len(own.choices)} choices, {own.space}")
    return own


def _fetch_tables(args: argparse.Namespace, own: OwnModel | None, progress: Progress) -> list[LatencyTable]:
    """The tables of the devices, in the order of their names, checked for a search.

    Those of a user's own model are measured first, where a device has none.
    """
    devices = sorted(args.device)
    for name in devices:
        check_device_name(name)
    for name, after in pairwise(devices):
        if name == after:
            raise WrongUse(f"--device {name} was given twice")
    asked = {} if own is not None else asked_space(args)
    with connect(args.lut_url, args) as client:
        tables = [
            client.get_table(device, space_prefix(asked), args.runtime)
            if own is None
            else get_own_table(client, own, device, args.runtime, progress)
            for device in devices
        ]
    for table in tables:
        check_space(table, asked)
        require_fp32(table)
    require_one_space(tables)
    for table in tables:
        device_simplex(table)  # a missing price is said before anything is written
    return tables


def _kept_counts(args: argparse.Namespace, table: LatencyTable) -> CountKernels:
    """The kernel counts that the server keeps of a table's networks; the device is not asked."""
    if table.kernels is None:
        return no_counts
    with connect(args.lut_url, args) as client:
        counts = client.get_kernel_counts(table.device, table.space, str(table.runtime))
    known = {table.parsed_space.parse(name): kernels for name, kernels in counts.items()}
    return lambda _: known
