"""A supernet trained by nothing but fairly sampled paths (FairNAS: Chu et al., 2021), and networks scored on it.

What `random` and `nsga2` evaluate with, and what every strategy's networks are compared by (`search.comparison`, with
another seed: other weights, other splits). It is the warm-up of the default strategy, as long as the whole of its
search; in a run directory of its own, so that it is gone on with after an interruption.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from search.config import Config
from search.data import ImageSet
from search.progress import Progress
from search.run_directory import RunDirectory
from search.strategies.bench import SearchStopped
from search.training import Stopped, Trainer
from shared.table import LatencyTable


def one_shot_config(config: Config, seed: int) -> Config:
    """All of the config's updates as warm-up."""
    return replace(config, seed=seed, warmup_steps=config.total_steps, search_steps=0)


def train_one_shot(
    path: Path, config: Config, table: LatencyTable, images: ImageSet, progress: Progress, stopped: Stopped
) -> RunDirectory:
    """Train, or go on with, the supernet of `one_shot_config`.

    Raises:
        SearchStopped: `stopped()`; everything is saved.
    """
    return train_run(path, config, table, images, progress, stopped)


def train_run(
    path: Path, config: Config, table: LatencyTable, images: ImageSet, progress: Progress, stopped: Stopped
) -> RunDirectory:
    """A run directory at `path` whose training is complete; one that is there is gone on with."""
    there = (path / "config.json").exists()
    run = RunDirectory.open(path) if there else RunDirectory.create(path, config, table, images=images)
    trainer = Trainer(run, images)
    if not trainer.train(progress, stopped):
        raise SearchStopped(f"stopped after step {trainer.step} of {config.total_steps}, everything is saved")
    return run
