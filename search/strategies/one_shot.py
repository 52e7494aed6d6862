"""The one-shot supernet, trained by fairly sampled paths (FairNAS: Chu et al., 2021).

`random` and `nsga2` score with it. `search.compare.comparison` compares all strategies by a second
supernet of other weights and splits. Training is the warm-up of the default strategy, as long as
its whole search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from search.config import Config
from search.data import ImageSet
from search.family.family import Member, Ranker
from search.family.pareto import select_members
from search.process.progress import Progress
from search.ranking.scoring import open_scorer
from search.runs.run_directory import RunDirectory
from search.strategies.context import Bench, Outcome, SearchStopped
from search.training.training import Stopped, Trainer
from shared.tables.table import LatencyTable


def one_shot_config(config: Config, seed: int) -> Config:
    """The config of a one-shot supernet: as many updates as the whole search, all by fair paths."""
    return replace(
        config, seed=seed, warmup_steps=config.total_steps, search_steps=0, path_sampler="fair", auxiliary_skip=0.0
    )


def train_run(
    path: Path, config: Config, table: LatencyTable, images: ImageSet, progress: Progress, stopped: Stopped
) -> RunDirectory:
    """The run of a config at `path`, trained to its end; an unfinished run goes on.

    Raises:
        SearchStopped: `stopped()`; everything is saved.
        LutnasError: training diverged.
        CorruptFile: the run directory is damaged.
    """
    there = (path / "config.json").exists()
    run = RunDirectory.open(path) if there else RunDirectory.create(path, config, table, images=images)
    trainer = Trainer(run, images)
    if not trainer.train(progress, stopped):
        raise SearchStopped(f"stopped after step {trainer.step} of {config.total_steps}, everything is saved")
    return run


def open_ranker(bench: Bench, run: RunDirectory) -> Ranker:
    """Rank by the supernet of a run. Scores stay in the bench's folder: strategies share none."""
    scorer = open_scorer(run, bench.look, bench.folder / "scores.json")
    return Ranker(bench.model, scorer, bench.config.confidence)


def stopping(bench: Bench, advance: Callable[[int], None]) -> Callable[[int], None]:
    """`advance`, but it raises SearchStopped once `bench.stopped()`."""

    def advance_or_stop(count: int) -> None:
        advance(count)
        if bench.stopped():
            raise SearchStopped("stopped while networks were scored")

    return advance_or_stop


def make_outcome(bench: Bench, run: RunDirectory, ranked: Sequence[Member], most: int) -> Outcome:
    """The outcome of ranked networks: at most `most` proposals."""
    members = select_members(ranked, most)
    chosen = [bench.propose(member.genotype, derived=False, rank=member.rank) for member in members]
    return Outcome(tuple(chosen), run.config.total_steps * bench.batch_size, len(ranked))
