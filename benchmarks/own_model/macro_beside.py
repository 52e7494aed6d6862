"""The networks of `nas-bench-macro` as a user's model, trained beside the supernet that is built in.

The same paths train on the same images, in single precision at the whole resolution, in turns on
the same cores. `of_built_in` compares the rates of the same round. Prices change no computation.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks import Progress
from benchmarks.own_model.own_model import MODELS
from benchmarks.report import Figure
from benchmarks.search.speed import THREADS, go_on, make_config, nominal_table
from search.data import load_images
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from search.runs.run_directory import RunDirectory
from search.training.training import Trainer
from shared.spaces import make_space
from shared.spaces.op_key import Shape

BUILT_IN = make_space("nas-bench-macro", resolution=32, channels=16, depth=3)
FILE = MODELS / "macro.py"
ROUNDS = 3
STEPS = 12
"""Of a round, an update of alpha after the last."""


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `own.macro.*`; takes two minutes."""
    rates = measure_rates(progress)
    ratios = [own / built_in for own, built_in in zip(rates["own"], rates["built_in"], strict=True)]
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {
        "own.macro.lines": Figure(value=len(lines), bar="<= 60"),
        **{
            f"own.macro.{name}_images_per_s": Figure(
                value=fmean(listed), unit="images/s", n=len(listed), spread=stdev(listed)
            )
            for name, listed in rates.items()
        },
        "own.macro.of_built_in": Figure(value=fmean(ratios), n=len(ratios), spread=stdev(ratios), bar=">= .8"),
    }


def measure_rates(progress: Progress, rounds: int = ROUNDS, steps: int = STEPS) -> dict[str, list[float]]:
    """Training images per second in each round, by the search's own training."""
    own = examine(load_model(f"{FILE}:make_model"), Shape(3, BUILT_IN.resolution, BUILT_IN.resolution))
    images = load_images("digits", BUILT_IN.resolution, 3)
    settings: dict[str, Any] = {"own": {"model": f"{FILE}:make_model", "choices": own.names}, "built_in": {}}
    rates: dict[str, list[float]] = {name: [] for name in settings}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {}
        for name, space in (("own", own.space), ("built_in", BUILT_IN)):
            table = nominal_table(space)
            config = make_config(table, images, search_resolution=space.resolution, **settings[name])
            trainers[name] = Trainer(RunDirectory.create(Path(folder) / name, config, table, images=images), images)
            go_on(trainers[name], 1)  # the first update is slower
        for number in range(rounds):
            progress(f"training on {THREADS} threads, round {number + 1} of {rounds}")
            for name, trainer in trainers.items():
                begun_s = time.monotonic()
                go_on(trainer, steps)
                seen = steps * trainer.config.paths_per_step * trainer.config.batch_size
                rates[name].append(seen / (time.monotonic() - begun_s))
    return rates
