"""Train a network to the end: the best for a budget, or a named one.

    search train --run runs/rpi4 --max-latency-ms 20

The recipe is that of DARTS; one training per seed. Interrupted, the same command goes on where it
was. `search export --trained` ships the result.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from rich.console import Console

from search.commands.finished_run import (
    add_confidence,
    add_run,
    add_server,
    open_picker,
    open_run,
    parse_genotype,
    working_progress,
)
from search.commands.output import print_line
from search.commands.recipe import add_recipe, chosen_settings
from search.data import ImageSet
from search.process.interruption import stop_on_signals
from search.process.progress import Progress
from search.retraining.evaluation import batches
from search.retraining.finetune import accuracy_on_test_images
from search.retraining.retrain import SHARDS, Retraining, RetrainingSettings
from search.retraining.retrain_directory import TrainedNetwork
from search.runs.run_directory import RunDirectory
from search.supernet import Network, recompute_statistics
from shared.command_line import Commands, Parser, add_command
from shared.errors import InvalidValue, Stopped

RECALIBRATION_IMAGES = 1024


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "train", run, __doc__)
    add_run(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--max-latency-ms", type=float, metavar="X", help="the best network for this budget")
    which.add_argument("--genotype", metavar="G", help="this network")
    add_confidence(parser)
    add_server(parser)
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="trainings, with the run's seed and those after it (1)"
    )
    parser.add_argument(
        "--inherit", action="store_true", help="begin with the supernet's weights instead of random ones"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="half batches computed at the same time; changes no number (the run's)"
    )
    add_recipe(parser)


def run(args: argparse.Namespace) -> int:
    """Train with each seed, one after another."""
    console = Console()
    run = open_run(args)
    if args.seeds < 1:
        raise InvalidValue("seeds", f"{args.seeds} is not 1 or more")
    if args.threads is not None and args.threads < 1:
        raise InvalidValue("threads", f"{args.threads} is not 1 or more")
    chosen = chosen_settings(args)
    every = [
        RetrainingSettings(**chosen, seed=run.config.seed + k, inherit=args.inherit, precision=run.config.precision)
        for k in range(args.seeds)
    ]
    progress = working_progress()
    if args.genotype:
        genotype = parse_genotype(run.space, args.genotype)
    else:
        genotype = open_picker(args, run, progress).pick(args.max_latency_ms, progress).best.genotype
    images = run.load_images()
    print_line(console, f"{run.space.format(genotype)} on {images.title}, {every[0].accuracy_kind}")
    accuracies = []
    with stop_on_signals() as stopped:
        for settings in every:
            trained = TrainedNetwork.begin(run, genotype, settings)
            if not trained.done:
                train(trained, run, images, progress, stopped, args.threads)
            accuracies.append(trained.test_accuracy or 0.0)
            print_line(console, f"seed {settings.seed}: test accuracy {accuracies[-1]:.2f} %; {trained.path}")
    if len(accuracies) > 1:
        mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
        print_line(console, f"{len(accuracies)} seeds: {mean:.2f} % (standard deviation {spread:.2f})")
    return 0


def train(
    trained: TrainedNetwork,
    run: RunDirectory,
    images: ImageSet,
    progress: Progress,
    stopped: Callable[[], bool],
    threads: int | None = None,
) -> None:
    """Train one network to the end, keeping its state after each epoch; the run says with how many threads by default.

    Raises:
        Stopped: it was stopped, or diverged.
    """
    settings = trained.settings
    training = Retraining(
        first_networks(run, images, trained), images, settings, min(SHARDS, threads or run.config.threads)
    )
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
    trained.finish(training.network, accuracy_on_test_images(training.network, images))


def first_networks(run: RunDirectory, images: ImageSet, trained: TrainedNetwork) -> list[Network]:
    """The networks of all shards, with the weights to start from: random ones of the seed, or the supernet's."""
    space, genotype = run.space, trained.genotype
    if trained.settings.inherit:
        supernet = run.supernet()
        networks = [supernet.derive(genotype) for _ in range(SHARDS)]
        prepared = images.preprocessing.apply(images.train_images[:RECALIBRATION_IMAGES])
        recompute_statistics(networks[0], batches(prepared))  # the supernet keeps none
        networks[1:] = [_same(networks[0], network) for network in networks[1:]]
        return networks
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trained.settings.seed)
        return [Network(space, genotype) for _ in range(SHARDS)]


def _same(network: Network, other: Network) -> Network:
    other.load_state_dict(network.state_dict())
    return other
