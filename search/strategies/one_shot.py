"""A supernet trained by nothing but fairly sampled paths (FairNAS: Chu et al., 2021), and networks scored on it.

`random` and `nsga2` score with it, and every strategy's networks are compared by another one of other weights and
splits (`search.compare.comparison`). It is the warm-up of the default strategy, as long as the whole of its search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from search.config import Config
from search.data import ImageSet
from search.family.candidates import Ranker
from search.process.progress import Progress
from search.ranking.scoring import open_scorer
from search.runs.run_directory import RunDirectory
from search.strategies.context import Bench, SearchStopped
from search.training.training import Stopped, Trainer
from shared.tables.table import LatencyTable


def one_shot_config(config: Config, seed: int) -> Config:
    """The config of such a supernet: as many updates as the whole search, all of them warm-up by fair paths."""
    return replace(
        config, seed=seed, warmup_steps=config.total_steps, search_steps=0, path_sampler="fair", auxiliary_skip=0.0
    )


def train_run(
    path: Path, config: Config, table: LatencyTable, images: ImageSet, progress: Progress, stopped: Stopped
) -> RunDirectory:
    """The run of a config at `path`, trained to its end; what is there is gone on with.

    Raises:
        SearchStopped: `stopped()`; everything is saved.
        LutnasError: training diverged.
        CorruptFile: what is there is damaged.
    """
    there = (path / "config.json").exists()
    run = RunDirectory.open(path) if there else RunDirectory.create(path, config, table, images=images)
    trainer = Trainer(run, images)
    if not trainer.train(progress, stopped):
        raise SearchStopped(f"stopped after step {trainer.step} of {config.total_steps}, everything is saved")
    return run


def open_ranker(bench: Bench, run: RunDirectory) -> Ranker:
    """Ranks networks by the supernet of a run; scores are kept in the bench's own folder, so that nobody's are free."""
    return Ranker(bench.model, open_scorer(run, path=bench.folder / "scores.json"), bench.config.confidence)


def stopping(bench: Bench, advance: Callable[[int], None]) -> Callable[[int], None]:
    """`advance`, which raises SearchStopped once `bench.stopped()`."""

    def advance_or_stop(count: int) -> None:
        advance(count)
        if bench.stopped():
            raise SearchStopped("stopped while networks were scored")

    return advance_or_stop
