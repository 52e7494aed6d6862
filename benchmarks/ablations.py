"""What each means against collapse brings: the default search of NAS-Bench-201 with one of them changed at a time.

Short searches on CIFAR-10 (JPEG copy; one cell per stage, 16 x 16 pixels), a Raspberry Pi 4's table fitted from 60
latencies, three seeds. Judged by the published accuracies after 200 epochs, which no search sees:

    tau        Kendall's tau of the supernet's likelihood with the true accuracy, over the same random networks for all
    skip       probability of skips under alpha where neither latency nor parameters count (a skip in five is even odds)
    distinct   networks among the most probable choices at 25 trade-offs
    relaxed    expected latency of alpha beside that of its most probable network, mean of |difference|, percent
    hv         relative hypervolume of 24 networks that the alphas alone choose; none is ranked or scored
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.stats import kendalltau

from benchmarks import DataMissing, Progress
from benchmarks.cifar10_jpeg import write_cifar10
from benchmarks.nas_bench_201_truth import Truth, load_truth, relative_hypervolume
from benchmarks.report import Figure
from lut_server.transfer.additive_fit import Split, fit_table
from lut_server.transfer.architectures import read_column
from lut_server.transfer.imported_table import Target
from search.config import Config, references
from search.data import ImageSet, load_images
from search.decoder import Band
from search.decoding import make_decoder
from search.family import describe_trade_off, spread, trade_off_log_probabilities
from search.latency_model import LatencyModel
from search.pooling import decode_pool
from search.progress import PlainProgress
from search.run_directory import RunDirectory
from search.scoring import open_scorer
from search.training import Trainer
from shared.spaces import Genotype, make_space
from shared.table import LatencyTable
from shared.table_source import PER_ARCHITECTURE, TableSource

DATA = Path(os.environ.get("LUTNAS_DATA", Path(__file__).parents[2] / "shared" / "data"))
DEVICE, SEEDS = "raspi4", (0, 1, 2)
STEPS = {"warmup_steps": 700, "search_steps": 700, "alpha_every": 4}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "no_warmup": {"warmup_steps": 0, "search_steps": 1400, "alpha_every": 8},  # as many updates of both
    "uniform_paths": {"path_sampler": "uniform"},
    "no_exploration": {"exploration": 0.0},
    "floor": {"exploration": 0.0, "exploration_floor": 0.2},
    "auxiliary_skip": {"auxiliary_skip": 1.0},
}
UNITS = {"skip": "%", "relaxed": "%"}
JUDGED_NETWORKS, MEMBERS, TRADE_OFFS, PER_BUDGET = 100, 24, 5, 5
HELD_OUT = 1000


@dataclass(frozen=True)
class Found:
    """The figures of one search; the module's docstring says what they mean."""

    tau: float
    skip: float
    distinct: float
    relaxed: float
    hv: float


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `ablations.ROW.*`."""
    with tempfile.TemporaryDirectory() as folder:
        return ablate(progress, Path(folder))


def ablate(progress: Progress, folder: Path, threads: int = 2) -> dict[str, Figure]:
    """Search with every row and seed, each in a folder of its own; what is there already is not done again."""
    truth, cifar = _truth(), write_cifar10(DATA / "cifar10_jpeg", folder / "cifar10")
    images = load_images("cifar-10", 32, 3, cifar)
    figures = {}
    for name, changes in ROWS.items():
        found = []
        for seed in SEEDS:
            progress(f"{name}, seed {seed}")
            found.append(_searched(folder / f"{name}-{seed}", changes, seed, images, cifar, truth, threads, progress))
        for one in fields(Found):
            values = [getattr(result, one.name) for result in found]
            figures[f"ablations.{name}.{one.name}"] = Figure(
                value=fmean(values), unit=UNITS.get(one.name), n=len(values), spread=stdev(values)
            )
    return figures


def _searched(
    folder: Path,
    changes: Mapping[str, Any],
    seed: int,
    images: ImageSet,
    cifar: Path,
    truth: Truth,
    threads: int,
    progress: Progress,
) -> Found:
    results = folder / "found.json"
    if results.exists():
        return Found(**json.loads(results.read_text()))
    run = _run(folder, changes, seed, images, cifar, threads)
    Trainer(run, images).train(PlainProgress(progress))
    found = _judged(run, truth)
    results.write_text(json.dumps(asdict(found)))
    return found


def _run(
    folder: Path, changes: Mapping[str, Any], seed: int, images: ImageSet, cifar: Path, threads: int
) -> RunDirectory:
    if (folder / "config.json").exists():
        return RunDirectory.open(folder)
    table = _table(seed)
    config = Config(
        tables=references([table]),
        lut_url="http://127.0.0.1",
        space=table.space,
        dataset="cifar-10",
        data_dir=str(cifar),
        data_fingerprint=images.fingerprint,
        search_resolution=16,
        seed=seed,
        precision="fp32",  # the same numbers on every processor
        threads=threads,
        checkpoint_every=500,
        **{**STEPS, **changes},
    )
    return RunDirectory.create(folder, config, table, images=images)


def _judged(run: RunDirectory, truth: Truth) -> Found:
    model = LatencyModel(run.table)
    space, decoder = model.space, make_decoder(model, run.config.confidence)
    networks = _random_networks()
    scores = open_scorer(run).score(networks)
    places = truth.places([space.format(genotype) for genotype in networks])
    alphas = trade_off_log_probabilities(run.hypernetwork(), run.table, TRADE_OFFS)
    told = [describe_trade_off(model, *item) for item in alphas.items()]
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, MEMBERS)
    bands = [Band(high, low) for low, high in pairwise([0.0, *budgets_ms])]
    chosen = decode_pool(decoder, list(alphas.values()), bands, PER_BUDGET, MEMBERS)
    return Found(
        tau=float(kendalltau([score.nll for score in scores], truth.error["cifar10"][places]).statistic),
        skip=100 * next(one.skip_share for one in told if (one.u_lambda, one.u_kappa) == (0, 0)),
        distinct=len({one.genotype for one in told}),
        relaxed=100 * fmean(abs(one.expected_ms - one.derived_ms) / one.derived_ms for one in told if one.derived_ms),
        hv=relative_hypervolume(truth, DEVICE, "cifar10", [space.format(genotype) for genotype in chosen]),
    )


def _random_networks() -> list[Genotype]:
    """The same for every row and seed, distinct in what they compute."""
    space, draws = make_space("nas-bench-201", depth=1), random.Random(0)
    found: dict[Genotype, Genotype] = {}
    while len(found) < JUDGED_NETWORKS:
        genotype = space.sample(draws)
        found.setdefault(space.canonical(genotype), genotype)
    return list(found.values())


def _table(seed: int) -> LatencyTable:
    space, path = make_space("nas-bench-201", depth=1), DATA / "nas_bench_201" / "latency_ms.csv"
    column = read_column(path.read_bytes(), path.name, DEVICE, space)
    source = TableSource(PER_ARCHITECTURE, path.name, "", DEVICE)
    return fit_table(Target(DEVICE), source, space, column, Split(60, HELD_OUT, seed))


def _truth() -> Truth:
    folder = DATA / "nas_bench_201"
    if not folder.is_dir():
        raise DataMissing(f"{folder} is not there: LUTNAS_DATA names the folder with the published data")
    return load_truth(folder)
