"""Families of a trained run by every strategy, for the benchmarks that know the truth of a space.

This module never sees an accuracy of a truth. `benchmarks.judging.shares` judges the results.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from benchmarks.judging.code_identity import identify
from benchmarks.search.stopwatch import Stopwatch, minutes_since, read_minutes, write_minutes
from search.config import Config, references
from search.data import load_images
from search.decoding.decoding import EnumerationDecoder, enumerate_space
from search.family.build import build_families
from search.family.family import FamilySettings, Member, Ranker
from search.family.pareto import find_front, select_members
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress, SilentProgress
from search.ranking.scoring import ScoringSettings, open_scorer, rank_all
from search.runs.run_directory import DeviceRun, RunDirectory, on_every_device
from search.strategies.nsga2 import Nsga2, draw_first, evolve
from search.training.precision import has_bf16
from search.training.training import Trainer
from shared.spaces import Genotype
from shared.tables.table import LatencyTable

ROOT = Path(__file__).parents[2]
TRAINING = ("search.training.training", "lut_server.transfer.additive_fit", "lut_server.transfer.architectures")
"""Modules that decide a trained run, with all their imports."""
SCORING = ("search.ranking.scoring",)
BUILDING = (*TRAINING, *SCORING, "search.family.build")
"""Modules that decide a family."""
SETTINGS: Mapping[str, Any] = {
    "search_resolution": 16,
    "warmup_steps": 3000,
    "search_steps": 3000,
    "batch_size": 64,
    "alpha_batch_size": 64,
    "weight_lr": 0.1,
    "precision": "bf16" if has_bf16() else "fp32",
    "threads": 1,
    "checkpoint_every": 500,
}
"""Batches and learning rate are twice the default: a fifth less time per image on a core."""
COUNTS = (30, 100, 300, 1000)
"""Networks scored, for the curves. The last count is that of the strategies' main figures."""
CURVES = ("dartscc", "random", "nsga2")
"""From N scored networks: the first two have N for all devices together, NSGA-II has N for each."""
"""Strategies that score a part of the space, all with the same ranking."""
STRATEGIES = ("whole", *CURVES, "parameters", "random_score")
"""`whole` is the default of `search`: it scores every network of a small space.

The last two know only a network's parameter count, or a random number."""


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
class DeviceResult:
    """All families of a device.

    Attributes:
        everything: every distinct network of the space, ranked.
        families: by strategy.
        curves: of `CURVES`, by the number of networks that they may score.
    """

    everything: tuple[Member, ...]
    families: Mapping[str, Found]
    curves: Mapping[str, Mapping[int, Found]]


@dataclass(frozen=True)
class SeedResult:
    """A seed's results by device, and the minutes of each part on a core."""

    seed: int
    minutes: Mapping[str, float]
    devices: Mapping[str, DeviceResult]


def forget_scores_of(run: RunDirectory, scored_by: str) -> None:
    """Remove stored scores that other code made; the training stays."""
    mark = run.path / "scored_by.txt"
    if not mark.exists() or mark.read_text(encoding="utf-8") != scored_by:
        (run.path / "scores.json").unlink(missing_ok=True)
        write_minutes(run.path, {part: value for part, value in read_minutes(run.path).items() if part != "scoring"})
        mark.write_text(scored_by, encoding="utf-8")


def train(
    tables: Sequence[LatencyTable],
    data_dir: Path | None,
    folder: Path,
    seed: int,
    progress: Progress,
    settings: Mapping[str, Any],
    data_set: str = "cifar-10",
) -> RunDirectory:
    """A run for all devices, trained to its end; an earlier start is resumed."""
    space = tables[0].parsed_space
    images = load_images(data_set, space.resolution, space.image_channels, data_dir)
    if not (folder / "config.json").exists():
        config = Config(
            tables=references(tables),
            lut_url="",
            space=str(space),
            dataset=images.name,
            data_fingerprint=images.fingerprint,
            data_dir=None if data_dir is None else str(data_dir),
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


def score_everything(run: RunDirectory, look: ScoringSettings, progress: Progress) -> None:
    """Score every network of the space, once for all devices."""
    everything, watch = enumerate_space(run.space).representatives, Stopwatch(run.path, "scoring")
    with progress.phase("scoring", len(everything)) as phase:

        def advance(count: int) -> None:
            phase.advance(count)
            watch.tick()

        open_scorer(run, look).score(everything, advance)
    watch.stop()


def identify_family(table: LatencyTable, *settings: object) -> str:
    """SHA-256 over the code that decides a family, its table and its settings."""
    return identify(BUILDING, f"{table.hash} {settings}".encode())


def limited_to(count: int) -> FamilySettings:
    """Settings of `dartscc` that score so many networks for all devices together."""
    return FamilySettings(per_budget=48, candidates=count, per_further_device=0)


def find_families(
    run: RunDirectory, look: ScoringSettings, progress: Progress, counts: Sequence[int] = COUNTS
) -> SeedResult:
    """The families of every strategy.

    Args:
        run: trained.
        look: images of a score, and depth of untrained networks.
        counts: of networks to score, for the curves.
    """
    started_s, silent = time.monotonic(), SilentProgress()
    curves: dict[str, dict[str, dict[int, Found]]] = {view.table.device: {} for view in on_every_device(run)}
    for count in counts:
        for family in build_families(run, silent, limited_to(count), look):
            for strategy, candidates in (("dartscc", family.candidates), ("random", family.random_candidates)):
                curves[family.device].setdefault(strategy, {})[count] = find(candidates, len(candidates))
    whole = {family.device: family.candidates for family in build_families(run, silent, None, look)}  # stays in the run
    devices = {}
    with progress.phase("families", len(run.tables)) as phase:
        for view in on_every_device(run):
            device = view.table.device
            curve = {**curves[device], "nsga2": {count: evolved(view, count, look) for count in counts}}
            devices[device] = DeviceResult(whole[device], _families(whole[device], curve, run.config.seed), curve)
            phase.advance(1)
    return SeedResult(run.config.seed, {**read_minutes(run.path), "families": minutes_since(started_s)}, devices)


def _families(everything: Sequence[Member], curves: Mapping[str, Mapping[int, Found]], seed: int) -> dict[str, Found]:
    draws = np.random.default_rng(seed)
    fewest_last = [draws.uniform(0, 0.5) - member.parameters for member in everything]  # ties are broken at random
    return {
        "whole": find(everything, len(everything)),
        **{strategy: curve[max(curve)] for strategy, curve in curves.items()},
        "parameters": find(ranked_by(everything, fewest_last), 0),
        "random_score": find(ranked_by(everything, draws.random(len(everything))), 0),
    }


def find(candidates: Sequence[Member], evaluations: int) -> Found:
    """The family of ranked candidates, by the rule of `search`."""
    return Found(evaluations, tuple(select_members(candidates, FamilySettings.members)), tuple(find_front(candidates)))


def ranked_by(candidates: Sequence[Member], values: Sequence[float] | npt.NDArray[np.float64]) -> list[Member]:
    """The candidates ranked by values alone; the lowest is best.

    The rank also replaces the likelihood, so that ranks alone thin the members.
    """
    return [
        replace(candidate, rank=rank, nll=rank)
        for candidate, rank in zip(candidates, rankdata(values).tolist(), strict=True)
    ]


def evolved(view: DeviceRun, evaluations: int, look: ScoringSettings) -> Found:
    """The result of NSGA-II: the family of every network that it evaluates."""
    model, confidence, seed = LatencyModel(view.table), view.config.confidence, view.config.seed
    decoder, scorer = EnumerationDecoder(model, confidence), open_scorer(view, look)

    def bound_and_rank(genotypes: Sequence[Genotype]) -> npt.NDArray[np.float64]:
        ranks = rank_all(view.space, genotypes, scorer.score(genotypes))
        return np.column_stack([model.upper_ms(genotypes, confidence), ranks])

    first = draw_first(decoder, Nsga2.population, seed)
    asked = evolve(view.space, first, bound_and_rank, evaluations, seed)
    return find(Ranker(model, scorer, confidence).rank(asked), len(asked))
