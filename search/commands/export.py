"""Write a network as an ONNX file: the best for a budget, a named one, or a trained one.

    search export --run runs/rpi4 --max-latency-ms 20 --out network.onnx

The best and a named network are tuned first. --trained takes a folder of `search train`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from search.commands.pick import add_picking, add_run, choose_network, open_run, parse_genotype
from search.data import ImageSet
from search.deploy.export import export
from search.deploy.quantisation import CALIBRATION_IMAGES, export_int8
from search.own_model.examine import describe_choices
from search.process.progress import Progress, working_progress
from search.process.tensor_files import write_torch
from search.retraining.finetune import TuningImages, TuningSettings, tune, tuning_steps
from search.retraining.retrain_directory import TrainedNetwork
from search.runs.run_directory import RunDirectory
from shared.atomic_files import write_atomically
from shared.command_line import Commands, Parser, add_command
from shared.errors import WrongUse
from shared.spaces import Genotype


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "export", run, __doc__)
    add_run(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--max-latency-ms", type=float, metavar="X", help="the best network for this budget")
    which.add_argument("--genotype", metavar="G", help="this network")
    which.add_argument("--trained", type=Path, metavar="DIR", help="the network and the weights in this folder")
    add_picking(parser)
    parser.add_argument(
        "--tune-epochs",
        type=float,
        default=1.0,
        metavar="E",
        help="of training from the inherited weights, may be a fraction (default: %(default)g)",
    )
    parser.add_argument("--int8", action="store_true", help="8-bit integers, with ranges measured on training images")
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help="that --int8 measures ranges on (default: %(default)d)",
    )
    parser.add_argument(
        "--reduce-range", action="store_true", help="with --int8: weights of 7 bits, for x86 processors without VNNI"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the ONNX file to write")


def run(args: argparse.Namespace) -> int:
    run = open_run(args)
    settings = TuningSettings(args.tune_epochs, seed=run.config.seed, precision=run.config.precision)
    if not args.out.parent.is_dir():
        raise WrongUse(f"--out: {args.out.parent} is no folder")
    if args.int8 and run.config.model is not None:
        raise WrongUse("--int8 quantises networks of our spaces: quantise a model of your own with its own tools")
    progress = working_progress()
    trained = TrainedNetwork.open(args.trained) if args.trained else None
    if trained:
        trained.require_space_of(run)
    named = parse_genotype(run.space, args.genotype) if args.genotype else None
    chosen = choose_network(args, run, trained.genotype if trained else named, progress)
    images = run.load_images()
    network = trained.network(run, images) if trained else _tuned(run, chosen.genotype, images, settings, progress)
    kind = trained.settings.accuracy_kind if trained else settings.accuracy_kind
    model = export(network, chosen, run.table, images, kind, run.config.threads)
    shown = f"test accuracy {model.accuracy:.2f} % ({kind})"
    if run.config.model is not None:
        weights = args.out.with_suffix(".state.pt")
        write_torch(weights, dict(network.state_dict()))
        names = describe_choices(run.config.choices, chosen.genotype)
        print(f"{weights}: state_dict of search.freeze(model, {names})")
    if args.int8:
        seed, threads = run.config.seed, run.config.threads
        model = export_int8(model, images, args.calibration_images, seed, args.reduce_range, threads)
        shown += f", in int8 {model.accuracy:.2f} %"
    write_atomically(args.out, model.content)
    print(f"{args.out}: {run.describe(chosen.genotype)}")
    print(f"predicted {chosen.predicted_ms:.3f} ms, bound {chosen.upper_ms:.3f} ms on {run.table.device}; {shown}")
    priced, written = run.table.runtime.precision, "int8" if args.int8 else "fp32"
    if priced != written:
        progress.line(f"the table is of {priced} networks, the file is {written}: search verify measures it")
    return 0


def _tuned(
    run: RunDirectory, genotype: Genotype, images: ImageSet, settings: TuningSettings, progress: Progress
) -> nn.Module:
    network = run.supernet().derive(genotype)
    steps = tuning_steps(images, settings)
    with progress.phase("tuning", max(steps, 1)) as phase:
        tune(network, TuningImages(images, settings, run.loss), settings, steps, phase.advance)
    return network
