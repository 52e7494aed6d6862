"""Training images per second of the default search, against `darts` and `gdas` of this repository.

NAS-Bench-201, 16 channels, 32 x 32 images, with 5 cells per stage and with 1. The two published
methods run as published: the mixture of all ops (DARTS, first order), a hard sample (GDAS), single
precision, an update of the weights and an update of alpha per 64 images, at the whole resolution.
The default search runs with the settings of `search`: single paths, half the resolution, an update
of alpha per twelve, in bfloat16 if that is faster here. Two further figures remove an advantage
each: an update of alpha per 64 images, and the whole resolution.

All take turns in each round, in the same process on idle cores. A ratio compares times of the same
round. Neither prices nor images change the computation: prices are multiply-adds, images the
digits.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from benchmarks import Progress
from benchmarks.report import Figure
from search.config import Config, default_search_resolution, references
from search.data import ImageSet, load_images
from search.process.progress import SilentProgress
from search.process.threads_and_memory import torch_threads
from search.runs.run_directory import RunDirectory
from search.strategies import Bench
from search.strategies.darts import Darts, DartsUpdates
from search.strategies.gdas import Gdas, GdasUpdates
from search.training.precision import choose_precision
from search.training.training import Trainer
from shared.runtime import Runtime
from shared.spaces import Space, make_space
from shared.spaces.primitives import multiply_adds
from shared.tables.table import LatencyTable, OpPrice

THREADS = 2
ROUNDS = 5
DEPTHS = {5: "search.speed", 1: "search.speed.n1"}
AUTHORS_CODES = {5: {"darts": 8, "gdas": 33}, 1: {"darts": 34, "gdas": 128}}
"""Training images per second of the authors' own codes on two cores of the development machine."""
RATIO_BARS = {"darts": ">= 15", "gdas": ">= 4"}
UPDATES = {"darts": 3, "gdas": 8, "default": 24, "every_step": 8, "whole_resolution": 12}
"""Per round: a few seconds each with five cells per stage."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """`run` performs a number of updates, each of `images` training images."""

    name: str
    run: Callable[[int], None]
    images: int


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.speed.*`."""
    figures: dict[str, Figure] = {}
    for depth, prefix in DEPTHS.items():
        figures |= measured(progress, make_space("nas-bench-201", depth=depth), prefix)
    return figures


def measured(progress: Progress, space: Space, prefix: str, rounds: int = ROUNDS) -> dict[str, Figure]:
    """Rates and ratios in a space; bars belong to its depth."""
    return rate_figures(measured_rates(progress, space, rounds), space.depth, prefix)


def measured_rates(progress: Progress, space: Space, rounds: int) -> dict[str, list[float]]:
    """Images per second of each contestant in each round. In a round all run in turn."""
    rates: dict[str, list[float]] = {name: [] for name in UPDATES}
    with contestants(space, progress) as running:
        for contestant in running:
            contestant.run(1)  # the first update is slower: memory is taken, kernels are made
        for number in range(rounds):
            progress(f"{space.depth} cells per stage, round {number + 1} of {rounds}")
            for contestant in running:
                begun_s = time.monotonic()
                contestant.run(UPDATES[contestant.name])
                rates[contestant.name].append(
                    UPDATES[contestant.name] * contestant.images / (time.monotonic() - begun_s)
                )
    return rates


def rate_figures(rates: Mapping[str, Sequence[float]], depth: int, prefix: str) -> dict[str, Figure]:
    """Mean rates, and means of the ratios of each round."""
    figures = {}
    for name, listed in rates.items():
        bar = AUTHORS_CODES[depth].get(name)
        figures[f"{prefix}.{name}_images_per_s"] = _figure(listed, "images/s", f">= {bar}" if bar else None)
    for other in RATIO_BARS:
        for name in ("default", "every_step", "whole_resolution"):
            ratios = [ours / theirs for ours, theirs in zip(rates[name], rates[other], strict=True)]
            suffix = "" if name == "default" else f".{name}"
            bar_text = RATIO_BARS[other] if name == "default" and depth == 5 else None
            figures[f"{prefix}.vs_{other}{suffix}"] = _figure(ratios, None, bar_text)
    return figures


@contextmanager
def contestants(space: Space, progress: Progress) -> Iterator[list[Contestant]]:
    """All contestants on the same images, ready to run."""
    table, images = nominal_table(space), load_images("digits", space.resolution, space.image_channels)
    half = default_search_resolution(space.resolution)
    precision = choose_precision(space, half, Config.batch_size, progress)
    with tempfile.TemporaryDirectory() as folder:

        def default(name: str, **settings: int) -> Contestant:
            config = make_config(table, images, **{"search_resolution": half, **settings}, precision=precision)
            trainer = Trainer(RunDirectory.create(Path(folder) / name, config, table, images=images), images)
            return Contestant(name, lambda count: go_on(trainer, count), config.paths_per_step * config.batch_size)

        config = make_config(table, images, search_resolution=space.resolution)
        bench = Bench(config, table, images, (), Path(folder), 0, SilentProgress())
        darts, gdas = DartsUpdates(Darts(), bench), GdasUpdates(Gdas(), bench)
        yield [
            Contestant("darts", lambda count: repeat(darts.update, count), bench.batch_size),
            Contestant("gdas", lambda count: repeat(gdas.update, count), bench.batch_size),
            default("default"),
            default("every_step", alpha_every=1),
            default("whole_resolution", search_resolution=space.resolution),
        ]


def repeat(update: Callable[[int], object], count: int) -> None:
    """Updates with two threads in each operation."""
    with torch_threads(THREADS):
        for step in range(count):
            update(step)


def go_on(trainer: Trainer, count: int) -> None:
    """Further updates of the default search, with its checkpoints."""
    end = trainer.step + count
    trainer.train(SilentProgress(), lambda: trainer.step >= end)


def make_config(table: LatencyTable, images: ImageSet, **settings: int | str) -> Config:
    """The settings of `search` without the warm-up."""
    return Config(
        tables=references([table]),
        lut_url="http://127.0.0.1:8700",
        space=table.space,
        dataset=images.name,
        data_fingerprint=images.fingerprint,
        **{"warmup_steps": 0, "search_steps": 1_000_000, "threads": THREADS, **settings},  # type: ignore[arg-type]
    )


def nominal_table(space: Space) -> LatencyTable:
    """A table whose prices are multiply-adds, a nanosecond each."""
    prices = tuple(
        OpPrice(str(key), cost_ms, 0.0, cost_ms, cost_ms, cost_ms)
        for key in space.op_keys()
        for cost_ms in (1e-3 + 1e-6 * multiply_adds(key),)
    )
    size = len(prices) + 1
    return LatencyTable(
        device="nominal",
        runtime=Runtime("onnxruntime", "1.31.0"),
        space=str(space),
        canary="canary:conv-v1",
        canary_nominal_ms=1.0,
        agent_version="0.1.0",
        base_ms=0.1,
        prices=prices,
        covariance=((0.0,) * size,) * size,
        relative_spread=0.01,
        held_out=None,
        networks=(),
        runs=("nominal",),
    )


def _figure(values: Sequence[float], unit: str | None, bar: str | None) -> Figure:
    return Figure(value=fmean(values), unit=unit, n=len(values), spread=stdev(values), bar=bar)
