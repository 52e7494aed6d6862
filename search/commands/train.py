"""Train a network to the end: the best for a budget, or a named one.

    search train --run runs/rpi4 --max-latency-ms 20

The recipe is that of DARTS. Each seed is a training of its own. After an interruption the same
command goes on. `search export --trained` ships the result.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

from torch import nn

from search.commands.pick import add_picking, add_run, open_picker, open_run, parse_genotype
from search.config import Config
from search.data import ImageSet
from search.process.interruption import stop_on_signals
from search.process.progress import Progress, working_progress
from search.retraining.finetune import accuracy_on_test_images, batches, recalibration_images
from search.retraining.retrain import RECIPES, SETTINGS, SHARDS, SHORT_UP_TO_EPOCHS, Retraining, RetrainingSettings
from search.retraining.retrain_directory import TrainedNetwork
from search.runs.run_directory import RunDirectory
from search.supernet import recompute_statistics
from shared.command_line import Commands, Parser, add_command
from shared.errors import InvalidValue, Stopped

RECALIBRATION_IMAGES = 1024


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "train", run, __doc__)
    add_run(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--max-latency-ms", type=float, metavar="X", help="the best network for this budget")
    which.add_argument("--genotype", metavar="G", help="this network")
    add_picking(parser)
    parser.add_argument(
        "--inherit", action="store_true", help="begin with the supernet's weights instead of random ones"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="half batches computed at the same time; changes no number (the run's)"
    )
    add_recipe(parser, 1, "trainings, with the run's seed and those after it")


def run(args: argparse.Namespace) -> int:
    run = open_run(args)
    if args.threads is not None and args.threads < 1:
        raise InvalidValue("threads", f"{args.threads} is not 1 or more")
    every = chosen_settings(args, run.config, args.inherit)
    progress = working_progress()
    if args.genotype:
        genotype = parse_genotype(run.space, args.genotype)
    else:
        genotype = open_picker(args, run, progress).pick(args.max_latency_ms, progress).best.genotype
    images = run.load_images()
    print(f"{run.space.format(genotype)} on {images.title}, {every[0].accuracy_kind}", flush=True)
    accuracies = []
    with stop_on_signals() as stopped:
        for settings in every:
            trained = TrainedNetwork.begin(run, genotype, settings)
            accuracies.append(train(trained, run, images, progress, stopped, args.threads))
            print(f"seed {settings.seed}: test accuracy {accuracies[-1]:.2f} %; {trained.path}", flush=True)
    if len(accuracies) > 1:
        mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
        print(f"{len(accuracies)} seeds: {mean:.2f} % (standard deviation {spread:.2f})")
    return 0


def train(
    trained: TrainedNetwork,
    run: RunDirectory,
    images: ImageSet,
    progress: Progress,
    stopped: Callable[[], bool],
    threads: int | None = None,
) -> float:
    """Train a network to the end, unless that is done; returns its test accuracy in percent.

    Its state is kept after each epoch. The default for `threads` is the run's.

    Raises:
        Stopped: a signal came.
        LutnasError: the training diverged.
    """
    if trained.test_accuracy is not None:
        return trained.test_accuracy
    settings = trained.settings
    training = Retraining(
        first_networks(run, images, trained), images, settings, min(SHARDS, threads or run.config.threads)
    )
    training.loss = run.loss or training.loss
    trained.restore(training)
    if training.step:
        progress.line(f"going on after step {training.step} of {training.total_steps}")
    with progress.phase(f"training, seed {settings.seed}", training.total_steps - training.step) as phase:
        complete = training.train(lambda metrics: trained.keep(training, metrics), stopped, phase.advance)
    if not complete:
        trained.keep(training)
        raise Stopped(
            f"stopped after step {training.step} of {training.total_steps}, everything is saved in {trained.path};"
            " the same command goes on"
        )
    accuracy = accuracy_on_test_images(training.network, images)
    trained.finish(training.network, accuracy)
    return accuracy


def first_networks(run: RunDirectory, images: ImageSet, trained: TrainedNetwork) -> list[nn.Module]:
    """A network for each shard: with random weights of the seed, or with the supernet's weights."""
    genotype = trained.genotype
    if trained.settings.inherit:
        supernet = run.supernet()
        networks: list[nn.Module] = [supernet.derive(genotype) for _ in range(SHARDS)]
        prepared = recalibration_images(images, RECALIBRATION_IMAGES)
        recompute_statistics(networks[0], batches(prepared))  # the supernet keeps none
        for network in networks[1:]:
            network.load_state_dict(networks[0].state_dict())
        return networks
    return [run.new_network(genotype, trained.settings.seed) for _ in range(SHARDS)]


def add_recipe(parser: argparse.ArgumentParser, seeds: int, seeds_help: str) -> None:
    """--seeds, --recipe, and an option for each setting of the recipe."""
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"{seeds_help} (default: %(default)d)")
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        help=f"defaults of the settings (short up to {SHORT_UP_TO_EPOCHS} epochs, darts beyond)",
    )
    advanced = parser.add_argument_group("advanced")
    for name, (default, help_text) in SETTINGS.items():
        others = "".join(f", {recipe}: {own[name]:g}" for recipe, own in RECIPES.items() if name in own)
        advanced.add_argument(
            "--" + name.replace("_", "-"),
            type=type(default),
            metavar="X",
            help=f"{help_text} (default: {default}{others})",
        )


def chosen_settings(args: argparse.Namespace, config: Config, inherit: bool = False) -> list[RetrainingSettings]:
    """Settings for each seed, from the run's seed on: options, overriding the recipe.

    Raises:
        InvalidValue: a setting is outside its domain.
    """
    if args.seeds < 1:
        raise InvalidValue("seeds", f"{args.seeds} is not 1 or more")
    epochs = SETTINGS["epochs"][0] if args.epochs is None else args.epochs
    given = {name: value for name in SETTINGS if (value := getattr(args, name)) is not None}
    chosen: dict[str, Any] = {**RECIPES[args.recipe or ("short" if epochs <= SHORT_UP_TO_EPOCHS else "darts")], **given}
    seeds = range(config.seed, config.seed + args.seeds)
    return [RetrainingSettings(**chosen, seed=seed, inherit=inherit, precision=config.precision) for seed in seeds]
