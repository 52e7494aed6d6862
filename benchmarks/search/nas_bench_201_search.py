"""A seed of the NAS-Bench-201 benchmark: tables, supernet and families, from latencies alone.

    tables     additive, fitted to 60 measured architectures of each device
    supernet   NAS-Bench-201, 16 channels, 1 cell per stage, CIFAR-10 (JPEG copy) pooled to 16 x 16
    families   of each device by each strategy, at most 24 members

The measured networks have five cells per stage, so the price of an op is that of the op in all five
cells. The supernet has a single cell, because the cells of a stage are alike. This module never
sees an accuracy of the benchmark. `benchmarks.search.nas_bench_201_truth` judges the results.

Runs are kept in runs/nas-bench-201 and resumed. `python -m benchmarks.search.nas_bench_201_search
SEED` trains a seed and scores its networks.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata

from benchmarks import DataMissing
from benchmarks.search.cifar10_jpeg import write_cifar10
from benchmarks.search.stopwatch import Stopwatch, minutes_since, read_minutes, write_minutes
from lut_server.transfer.additive_fit import Split, fit_table
from lut_server.transfer.architectures import latency_columns, read_column
from lut_server.transfer.imported_table import Target
from search.config import Config, references
from search.data import load_images
from search.decoding.decoding import EnumerationDecoder
from search.family.candidate_pool import draw_pool, merge_distinct
from search.family.candidates import Member, Ranker
from search.family.family import Family, FamilySettings, build_families, build_unseen_family, spread
from search.family.pareto import find_front, select_members
from search.genotypes.enumeration import enumerate_space
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress, SilentProgress
from search.ranking.scoring import ScoringSettings, open_scorer, rank_all
from search.runs.run_directory import DeviceRun, RunDirectory, on_every_device
from search.strategies.nsga2 import evolve
from search.training.training import Trainer
from shared.spaces import Genotype, Space, make_space
from shared.tables.table import LatencyTable
from shared.tables.table_source import PER_ARCHITECTURE, TableSource

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("LUTNAS_DATA", ROOT.parent / "shared" / "data"))
RUNS = ROOT / "runs" / "nas-bench-201"

SPACE = make_space("nas-bench-201", resolution=32, channels=16, depth=1)
FITTED, HELD_OUT = 60, 1000
SETTINGS: Mapping[str, Any] = {
    "search_resolution": 16,
    "warmup_steps": 3000,
    "search_steps": 3000,
    "batch_size": 64,
    "alpha_batch_size": 64,
    "weight_lr": 0.1,
    "precision": "bf16",
    "threads": 1,
    "checkpoint_every": 500,
}
"""Batches and learning rate are twice the default: a fifth less time per image on a core."""
LOOK = ScoringSettings(untrained_depth=5)
"""Untrained networks have as many cells as the published networks."""
DARTSCC = FamilySettings(per_budget=48, candidates=480, per_further_device=36)
"""Four times the default candidates for a device, 948 for fourteen; nothing exhaustive."""
NSGA2_POPULATION = 24
TRAINING = ("search.training.training", "lut_server.transfer.additive_fit", "lut_server.transfer.architectures")
"""Modules that decide a trained run, with all their imports."""
SCORING = ("search.ranking.scoring",)
SOURCES = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
for name, module in sorted(sys.modules.items()):
    if name.startswith(("search", "lut_server.calibration.op_calibration", "lut_server.transfer", "shared.spaces")):
        print(module.__file__)
"""
"""Lists the files that decide a number. The others read, write, check and name."""

STRATEGIES = ("whole", "dartscc", "random", "nsga2", "parameters", "random_score")
"""`whole` is the default of `search`: it scores every network of a small space.

The next three evaluate the same number of networks. The last two know only a network's parameter
count, or a random number."""


@dataclass(frozen=True)
class Found:
    """The result of a strategy for a device.

    Attributes:
        evaluations: distinct networks that the supernet scored.
        members: of the family, at most 24.
        front: candidates that no other beats in both bound and rank; picks choose from it.
    """

    evaluations: int
    members: tuple[Member, ...]
    front: tuple[Member, ...]


@dataclass(frozen=True)
class SeedResult:
    """A seed's families, {device: {strategy: found}}, and the minutes of each part on a core."""

    seed: int
    minutes: Mapping[str, float]
    families: Mapping[str, Mapping[str, Found]]


def find_families(seed: int, progress: Progress) -> SeedResult:
    """Every strategy's families of a seed, from its stored run or a new run.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    run = get_run(seed, progress)
    started_s = time.monotonic()
    with progress.phase("families", len(run.tables)) as phase:
        families = search_families(run, DARTSCC, phase.advance)
    return SeedResult(seed, {**read_minutes(run.path), "families": minutes_since(started_s)}, families)


def get_run(seed: int, progress: Progress) -> RunDirectory:
    """The trained run of a seed, every network of the space scored.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    run = get_trained(fit_tables(latency_file(), seed), f"seed{seed}", seed, progress)
    score_everything(run, progress)
    return run


def get_trained(tables: Sequence[LatencyTable], name: str, seed: int, progress: Progress) -> RunDirectory:
    """The trained run of a name, with the scores of this code so far.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    decided_by = f"{SPACE} {FITTED} {HELD_OUT} {SETTINGS}".encode()
    trained_by = identify(TRAINING, latency_file().read_bytes(), decided_by)
    cifar = write_cifar10(DATA / "cifar10_jpeg", RUNS / "cifar10_jpeg")
    run = train(tables, cifar, RUNS / trained_by[:12] / name, seed, progress, SETTINGS)
    forget_scores_of(run, identify(SCORING))
    return run


def ask_about_unseen(seed: int, progress: Progress) -> dict[str, Found]:
    """Families of `dartscc` for every second device, from its table and a run of the other devices.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    tables = fit_tables(latency_file(), seed)
    run = get_trained(tables[::2], f"seed{seed}-half", seed, progress)
    build_families(run, progress, DARTSCC, LOOK)
    return {table.device: _find_unseen(DeviceRun(run, table), progress) for table in tables[1::2]}


def _find_unseen(view: DeviceRun, progress: Progress) -> Found:
    candidates = build_unseen_family(view, progress, LOOK).candidates
    return find(candidates, len(candidates))


def identify(modules: Sequence[str], *contents: bytes) -> str:
    """SHA-256 over some contents and the code of modules with all that they import."""
    listing = [sys.executable, "-c", SOURCES, *modules]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
    digest = hashlib.sha256()
    for content in (*contents, *(Path(line).read_bytes() for line in listed.stdout.splitlines())):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def forget_scores_of(run: RunDirectory, scored_by: str) -> None:
    """Remove stored scores that other code made; the training stays."""
    mark = run.path / "scored_by.txt"
    if not mark.exists() or mark.read_text(encoding="utf-8") != scored_by:
        (run.path / "scores.json").unlink(missing_ok=True)
        write_minutes(run.path, {part: value for part, value in read_minutes(run.path).items() if part != "scoring"})
        mark.write_text(scored_by, encoding="utf-8")


def latency_file() -> Path:
    """The published latencies.

    Raises:
        DataMissing: they are not on this machine.
    """
    path = DATA / "nas_bench_201" / "latency_ms.csv"
    if not path.is_file():
        raise DataMissing(f"{path} is not there: LUTNAS_DATA names the folder with the published latencies")
    return path


def fit_tables(latencies: Path, seed: int, fitted: int = FITTED, space: Space = SPACE) -> list[LatencyTable]:
    """A table of each device of the file, fitted to `fitted` of its architectures."""
    content = latencies.read_bytes()
    tables = []
    for device in latency_columns(content, latencies.name):
        source = TableSource(PER_ARCHITECTURE, latencies.name, hashlib.sha256(content).hexdigest(), device)
        column = read_column(content, latencies.name, device, space)
        tables.append(fit_table(Target(device), source, space, column, Split(fitted, HELD_OUT, seed)))
    return tables


def train(
    tables: Sequence[LatencyTable],
    cifar: Path,
    folder: Path,
    seed: int,
    progress: Progress,
    settings: Mapping[str, Any],
) -> RunDirectory:
    """A run for all devices, trained to its end; an earlier start is resumed."""
    space = tables[0].parsed_space
    images = load_images("cifar-10", space.resolution, space.image_channels, cifar)
    if not (folder / "config.json").exists():
        config = Config(
            tables=references(tables),
            lut_url="",
            space=str(space),
            dataset=images.name,
            data_fingerprint=images.fingerprint,
            data_dir=str(cifar),
            seed=seed,
            **settings,
        )
        RunDirectory.create(folder, config, *tables, images=images)
    run = RunDirectory.open(folder)
    trainer, watch = Trainer(run, images), Stopwatch(folder, "training")
    if trainer.step < run.config.total_steps:
        trainer.train(progress, watch.tick)
        watch.stop()
    return run


def score_everything(run: RunDirectory, progress: Progress) -> None:
    """Score every network of the space, once for all devices."""
    everything, watch = enumerate_space(run.space).representatives, Stopwatch(run.path, "scoring")
    with progress.phase("scoring", len(everything)) as phase:

        def advance(count: int) -> None:
            phase.advance(count)
            watch.tick()

        open_scorer(run, LOOK).score(everything, advance)
    watch.stop()


def search_families(
    run: RunDirectory, dartscc: FamilySettings, advance: Callable[[int], None] = lambda n: None
) -> dict[str, dict[str, Found]]:
    """The results of every strategy, {device: {strategy: found}}.

    Args:
        run: trained.
        dartscc: settings of `dartscc` and its baselines.
        advance: takes the number of finished devices.
    """
    silent = SilentProgress()
    decoded = {family.device: family for family in build_families(run, silent, dartscc, LOOK)}
    whole = {family.device: family for family in build_families(run, silent, None, LOOK)}  # stays in the run's folder
    found = {}
    for view in on_every_device(run):
        device = view.table.device
        found[device] = _find_all(view, whole[device].candidates, decoded[device])
        advance(1)
    return found


def find(candidates: Sequence[Member], evaluations: int) -> Found:
    """The family of ranked candidates, by the rule of `search`."""
    return Found(evaluations, tuple(select_members(candidates, FamilySettings.members)), tuple(find_front(candidates)))


def ranked_by(candidates: Sequence[Member], values: Sequence[float] | npt.NDArray[np.float64]) -> list[Member]:
    """The candidates ranked by values alone; the lowest is best.

    The rank also replaces the accuracy, so that ranks alone thin the members.
    """
    return [
        replace(candidate, rank=rank, accuracy=-rank)
        for candidate, rank in zip(candidates, rankdata(values).tolist(), strict=True)
    ]


def evolved(view: DeviceRun, evaluations: int) -> list[Member]:
    """Every network that NSGA-II evaluates, ranked as candidates."""
    model, confidence, seed = LatencyModel(view.table), view.config.confidence, view.config.seed
    decoder, scorer = EnumerationDecoder(model, confidence), open_scorer(view, LOOK)
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, NSGA2_POPULATION)
    drawn = draw_pool(decoder, budgets_ms, NSGA2_POPULATION, random.Random(seed))
    first = merge_distinct([decoder.fastest], drawn)[:NSGA2_POPULATION]

    def bound_and_rank(genotypes: Sequence[Genotype]) -> npt.NDArray[np.float64]:
        return np.column_stack([model.upper_ms(genotypes, confidence), rank_all(scorer.score(genotypes))])

    asked = evolve(view.space, first, bound_and_rank, evaluations, seed)
    return Ranker(model, scorer, confidence).rank(asked)


def _find_all(view: DeviceRun, everything: Sequence[Member], decoded: Family) -> dict[str, Found]:
    evaluations, draws = len(decoded.candidates), np.random.default_rng(view.config.seed)
    fewest_last = [draws.uniform(0, 0.5) - member.parameters for member in everything]  # ties are broken at random
    return {
        "whole": find(everything, len(everything)),
        "dartscc": find(decoded.candidates, evaluations),
        "random": find(decoded.random_candidates, len(decoded.random_candidates)),
        "nsga2": find(evolved(view, evaluations), evaluations),
        "parameters": find(ranked_by(everything, fewest_last), 0),
        "random_score": find(ranked_by(everything, draws.random(len(everything))), 0),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    get_run(int(sys.argv[1]), Progress(lambda line: print(line, flush=True)))
