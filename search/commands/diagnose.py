"""Say how well the search ranked: train members to the end and compare.

    search diagnose --run runs/rpi4 --members 8 --seeds 3

Members of the family are trained by the recipe of `search train`, with several seeds. After an
interruption the same command goes on. Nothing is trained twice by the same recipe.
"""

from __future__ import annotations

import argparse

from search.commands.pick import add_run, open_run
from search.commands.train import add_recipe, chosen_settings, train
from search.compare.diagnosis import (
    FILE_NAME,
    RetrainedMember,
    agreement_rows,
    diagnose,
    spread_members,
    write_diagnosis,
)
from search.family.family import load_family
from search.process.interruption import stop_on_signals
from search.process.progress import working_progress
from search.report import build_report
from search.retraining.retrain_directory import TrainedNetwork
from shared.atomic_files import write_atomically
from shared.command_line import Commands, Parser, add_command
from shared.spaces import Genotype

MEMBERS, SEEDS = 8, 3


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "diagnose", run, __doc__)
    add_run(parser)
    parser.add_argument(
        "--members", type=int, default=MEMBERS, metavar="N", help="networks, evenly over the family (%(default)s)"
    )
    add_recipe(parser, SEEDS, "trainings of each")


def run(args: argparse.Namespace) -> None:
    """Train members, compare, and write `diagnosis.json` and the report."""
    run = open_run(args)
    members = spread_members(load_family(run).members, args.members)
    every = chosen_settings(args, run.config)
    images, progress = run.load_images(), working_progress()
    accuracies: dict[Genotype, list[float]] = {member.genotype: [] for member in members}
    with stop_on_signals() as stopped:
        for settings in every:
            for member in members:
                trained = TrainedNetwork.begin(run, member.genotype, settings)
                accuracies[member.genotype].append(train(trained, run, images, progress, stopped))
    retrained = [RetrainedMember(member, tuple(accuracies[member.genotype])) for member in members]
    found = diagnose(retrained, every[0].accuracy_kind)
    write_diagnosis(run.folder, found, run.space)
    write_atomically(run.folder / "report.html", build_report(run).encode())
    print(f"Kendall's tau with the test accuracy of {len(members)} members, {found.accuracy_kind}:")
    for name, value in agreement_rows(found):
        print(f"  {name}: {value}")
    print(f"{run.folder / FILE_NAME}; also in {run.folder / 'report.html'}")
