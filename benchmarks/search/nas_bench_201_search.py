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
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import DataMissing
from benchmarks.judging import families
from benchmarks.judging.code_identity import identify
from benchmarks.search.cifar10_jpeg import write_cifar10
from lut_server.transfer.additive_fit import Split, fit_table
from lut_server.transfer.architectures import latency_columns, read_column
from lut_server.transfer.imported_table import Target
from search.family.build import build_families, build_unseen_family
from search.process.progress import Progress
from search.ranking.scoring import ScoringSettings
from search.runs.run_directory import DeviceRun, RunDirectory
from shared.spaces import Space, make_space
from shared.tables.table import LatencyTable
from shared.tables.table_source import PER_ARCHITECTURE, TableSource

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("LUTNAS_DATA", ROOT.parent / "shared" / "data"))
RUNS = ROOT / "runs" / "nas-bench-201"

SPACE = make_space("nas-bench-201", resolution=32, channels=16, depth=1)
FITTED, HELD_OUT = 60, 1000
LOOK = ScoringSettings(untrained_depth=5)
"""Untrained networks have as many cells as the published networks."""


def find_families(seed: int, progress: Progress) -> families.SeedResult:
    """Every strategy's families of a seed, from its stored run or a new run.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    return families.find_families(get_run(seed, progress), LOOK, progress)


def get_run(seed: int, progress: Progress) -> RunDirectory:
    """The trained run of a seed, every network of the space scored.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    run = get_trained(fit_tables(latency_file(), seed), f"seed{seed}", seed, progress)
    families.score_everything(run, LOOK, progress)
    return run


def get_trained(tables: Sequence[LatencyTable], name: str, seed: int, progress: Progress) -> RunDirectory:
    """The trained run of a name, with the scores of this code so far.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    decided_by = f"{SPACE} {FITTED} {HELD_OUT} {families.SETTINGS}".encode()
    trained_by = identify(families.TRAINING, latency_file().read_bytes(), decided_by)
    cifar = write_cifar10(DATA / "cifar10_jpeg", RUNS / "cifar10_jpeg")
    run = families.train(tables, cifar, RUNS / trained_by[:12] / name, seed, progress, families.SETTINGS)
    families.forget_scores_of(run, identify(families.SCORING))
    return run


def ask_about_unseen(seed: int, progress: Progress) -> dict[str, families.Found]:
    """Families of `dartscc` for every second device, from its table and a run of the other devices.

    Raises:
        DataMissing: the published latencies or the images are not on this machine.
    """
    tables = fit_tables(latency_file(), seed)
    run = get_trained(tables[::2], f"seed{seed}-half", seed, progress)
    build_families(run, progress, families.limited_to(families.COUNTS[-1]), LOOK)
    return {table.device: _find_unseen(DeviceRun(run, table), progress) for table in tables[1::2]}


def _find_unseen(view: DeviceRun, progress: Progress) -> families.Found:
    candidates = build_unseen_family(view, progress, LOOK).candidates
    return families.find(candidates, len(candidates))


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    get_run(int(sys.argv[1]), Progress(lambda line: print(line, flush=True)))
