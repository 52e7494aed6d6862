"""The worth of the supernet's weights as a start: `search train --inherit` against random weights.

Two members of a family in NAS-Bench-201 (16 channels, 1 cell per stage, 16 x 16 pixels) on
Fashion-MNIST, two seeds each, few epochs. The cost of the search is not counted: a search serves
every member. Prices are multiply-adds, because the device does not matter here. Runs are kept in
runs/inherit and resumed.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean, stdev

from benchmarks import Progress
from benchmarks.judging.families import identify_family
from benchmarks.report import Figure
from benchmarks.search.speed import nominal_table
from benchmarks.stack import run as run_command
from search.config import PRESETS, Config, references
from search.data import load_images
from search.family.build import build_families
from search.family.family import load_family
from search.process.progress import SilentProgress
from search.retraining.retrain import RECIPES, RetrainingSettings
from search.retraining.retrain_directory import TrainedNetwork
from search.runs.run_directory import DeviceRun, RunDirectory, on_device
from search.training.precision import choose_precision
from search.training.training import Trainer
from shared.spaces import Genotype, make_space

RUNS = Path(__file__).parents[2] / "runs" / "inherit"
SPACE = make_space("nas-bench-201", resolution=16, channels=16, depth=1)
MEMBERS, SEEDS, EPOCHS = 2, 2, (1, 3)
STARTS = {"cold": False, "inherited": True}


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.inherit.*`; takes half an hour on a core."""
    run_directory = get_run(progress)
    members = load_family(run_directory).members
    places = [len(members) * (2 * place + 1) // (2 * MEMBERS) for place in range(MEMBERS)]
    genotypes = [members[place].genotype for place in places]
    figures: dict[str, Figure] = {}
    for epochs in EPOCHS:
        found = {name: accuracies(run_directory, genotypes, epochs, start) for name, start in STARTS.items()}
        for name, values in found.items():
            figures[f"search.inherit.epochs_{epochs}.{name}"] = Figure(value=fmean(values), n=len(values))
        gains = [warm - cold for warm, cold in zip(found["inherited"], found["cold"], strict=True)]
        spread = stdev(gains)
        figures[f"search.inherit.epochs_{epochs}.gain"] = Figure(value=fmean(gains), n=len(gains), spread=spread)
    return figures


def get_run(progress: Progress) -> DeviceRun:
    """The finished search of runs/inherit, as `search --preset quick` makes it."""
    table = nominal_table(SPACE)
    folder = RUNS / identify_family(table, PRESETS["quick"])[:12] / "search"
    images = load_images("fashion-mnist", SPACE.resolution, SPACE.image_channels)
    if not (folder / "config.json").exists():
        config = Config(
            tables=references([table]),
            lut_url="",
            space=table.space,
            dataset=images.name,
            data_fingerprint=images.fingerprint,
            search_resolution=SPACE.resolution,
            precision=choose_precision(SPACE, SPACE.resolution, Config.batch_size, progress),
            **{**PRESETS["quick"], "threads": 1},  # type: ignore[arg-type]
        )
        RunDirectory.create(folder, config, table, images=images)
    run_directory = on_device(RunDirectory.open(folder))
    trainer = Trainer(run_directory, images)
    if trainer.step < run_directory.config.total_steps:
        progress("searching")
        trainer.train(SilentProgress())
    if not run_directory.family_path.exists():
        build_families(run_directory, SilentProgress())
    return run_directory


def accuracies(run_directory: DeviceRun, genotypes: list[Genotype], epochs: int, inherit: bool) -> list[float]:
    """Test accuracies (shares) of every network and seed; missing ones are trained first."""
    found = []
    for genotype in genotypes:
        command = ["search", "train", "--run", str(run_directory.path), "--genotype", SPACE.format(genotype)]
        command += ["--epochs", str(epochs), "--seeds", str(SEEDS), *(["--inherit"] if inherit else [])]
        run_command(command, dict(os.environ))
        for seed in range(SEEDS):
            settings = RetrainingSettings(
                **{**RECIPES["short"], "epochs": epochs},  # type: ignore[arg-type]
                seed=seed,
                inherit=inherit,
                precision=run_directory.config.precision,
            )
            accuracy = TrainedNetwork.begin(run_directory, genotype, settings).test_accuracy
            assert accuracy is not None
            found.append(accuracy / 100)
    return found
