"""The networks of `nas-bench-macro` as a user's model, beside the space that is built in.

Trained: the same paths on the same images, in single precision at the whole resolution, in turns on
the same cores. `of_built_in` compares the rates of the same round. Prices change no computation.

Measured: a campaign of each on this machine. The built-in space is priced op by op, the model by
networks timed whole. `apart` says by how much their predictions differ for the same networks.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks import Progress
from benchmarks.own_model.own_model import MODELS, make_table, newest_table
from benchmarks.report import Figure
from benchmarks.search.speed import THREADS, go_on, make_config, nominal_table
from benchmarks.stack import running_stack, this_device
from search.data import load_images
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from search.runs.run_directory import RunDirectory
from search.training.training import Trainer
from shared.spaces import Genotype, make_space
from shared.spaces.op_key import Shape
from shared.tables.table import LatencyTable

BUILT_IN = make_space("nas-bench-macro", resolution=32, channels=16, depth=3)
FILE = MODELS / "macro.py"
NETWORKS = 200
"""Whose predictions are compared."""
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


def run_latency(progress: Progress) -> dict[str, Figure]:
    """Figures `own.macro.apart*`; takes three minutes."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        progress(f"the table of {BUILT_IN}")
        stack.profile(this_device(), "--space", str(BUILT_IN))
        built_in = newest_table(stack)
        with stack.working_agent(this_device()):
            progress("the table of the model")
            own, _ = make_table(stack, FILE.stem, BUILT_IN.resolution)
    return compare(built_in, own)


def compare(built_in: LatencyTable, own: LatencyTable, networks: int = NETWORKS) -> dict[str, Figure]:
    """How far predictions for the same networks lie apart, in percent."""
    draw, apart = random.Random(0), []
    for _ in range(networks):
        genotype = BUILT_IN.sample(draw)
        apart.append(100 * (own.predict(to_own(genotype)).mean_ms / built_in.predict(genotype).mean_ms - 1))
    spread = f"{min(apart):+.1f} to {max(apart):+.1f}"
    mean = fmean(map(abs, apart))
    return {
        "own.macro.apart_percent": Figure(value=mean, unit="%", n=networks, spread=spread, bar="<= 2"),
        "own.macro.apart_worst_percent": Figure(value=max(map(abs, apart)), unit="%", n=networks),
    }


def to_own(genotype: Genotype) -> Genotype:
    """A network of `BUILT_IN` as one of the model."""
    chosen = zip(BUILT_IN.slots, genotype.choices, strict=True)
    return Genotype(tuple(str(slot.primitives.index(choice)) for slot, choice in chosen))


def to_built_in(columns: Genotype) -> Genotype:
    """Inverse of `to_own`."""
    chosen = zip(BUILT_IN.slots, columns.choices, strict=True)
    return Genotype(tuple(slot.primitives[int(column)] for slot, column in chosen))
