"""Families judged by the truth: NAS-Bench-Macro on this machine, five seeds (`search.nbmacro.*`).

A chain of eight layers, whose accuracies others trained and whose latencies the agent measures
here. Searches know the table and the images of CIFAR-10
(`benchmarks.judging.nas_bench_macro_search`). The latency of all 6,561 networks is what the table
predicts: measuring them would take a day. So the figures judge ranking and search, not the table.
The table's error on networks that were measured whole stands beside them (`table.*`).
`benchmarks.judging.shares` explains the figures.

Seeds run in parallel, each in a process on a core. Their figures are kept in
benchmarks/results/nas_bench_macro_seeds.json.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import Progress
from benchmarks.judging import shares
from benchmarks.judging.families import SeedResult
from benchmarks.judging.nas_bench_macro_search import Effort, find_families
from benchmarks.judging.nas_bench_macro_truth import Truth, load_truth
from benchmarks.judging.this_machine import get_table
from benchmarks.latency.tables import held_out_figures
from benchmarks.report import Figure
from search.process.progress import Progress as SearchProgress
from shared.tables.table import LatencyTable
from shared.wire import to_wire

SEEDS = 5
BARS = {"share": ">= .80", "tau.ranking": ">= .78", "tau_half.ranking": ">= .58"}
PARTS = Path(__file__).parents[1] / "results" / "nas_bench_macro_seeds.json"


def run(progress: Progress, seeds: int = SEEDS, effort: Effort | None = None, parts: Path = PARTS) -> dict[str, Figure]:
    """Figures `search.nbmacro.*`; takes hours."""
    effort = effort or Effort()
    truth = load_truth(effort.data / "nas_bench_macro", effort.space)  # first: a search takes hours
    progress("the table of this machine")
    table = get_table(effort.space, effort.folder, effort.profile)
    assert table.held_out is not None
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        results = list(pool.map(partial(_result, table, effort), range(seeds)))
    judged = {result.seed: judge_seed(truth, table, result) for result in results}
    shares.record(parts, judged)
    found = shares.figures("search.nbmacro", list(judged.values()), BARS)
    minutes = shares.over_seeds([sum(result.minutes.values()) for result in results], unit="min")
    errors = held_out_figures("search.nbmacro.table", to_wire(table.held_out), {})
    return {**found, "search.nbmacro.minutes": minutes, **errors}


def judge_seed(truth: Truth, table: LatencyTable, result: SeedResult) -> dict[str, float]:
    """All figures of a seed by name."""
    device = result.devices[table.device]
    trainings = truth.of([member.genotype for member in device.everything])
    accuracies = trainings.mean(axis=0)
    volume = shares.make_volume(device.everything, accuracies)
    scale = shares.make_scale(device.everything, -accuracies, volume, result.seed)
    agreement = shares.agree(table.parsed_space, device.everything, accuracies, trainings)
    return {**shares.judge(device, scale, volume), **agreement}


def _result(table: LatencyTable, effort: Effort, seed: int) -> SeedResult:
    progress = SearchProgress(lambda line: print(f"seed {seed}: {line}", flush=True))
    return find_families(table, seed, effort, progress)
