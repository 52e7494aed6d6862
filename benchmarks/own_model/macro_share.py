"""The networks of `nas-bench-macro` as a user's model, beside the space that is built in: by the truth.

A search in each with the same table, images, settings and seeds. Both rank all 6,561 networks. The
truth that judges `nas_bench_macro` judges their families (`benchmarks.judging.shares`). Latencies
are those of networks of 16 channels, accuracies those of 32.

behind:  by how many standard deviations over the seeds the model's mean share is the lower one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from statistics import fmean

import numpy as np
import torch

from benchmarks import Progress
from benchmarks.judging import families, shares
from benchmarks.judging.code_identity import identify
from benchmarks.judging.nas_bench_macro_search import SETTINGS, Effort
from benchmarks.judging.nas_bench_macro_truth import Truth, load_truth
from benchmarks.judging.this_machine import get_table
from benchmarks.own_model.macro_beside import BUILT_IN, FILE, to_built_in
from benchmarks.report import Figure
from benchmarks.search.cifar10_jpeg import write_cifar10
from search.family.build import build_families
from search.family.family import Member
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from search.process.progress import Progress as SearchProgress
from search.ranking.scoring import ScoringSettings
from shared.spaces import Own
from shared.spaces.op_key import Shape
from shared.tables.table import LatencyTable, OpPrice

SEEDS = 3
EFFORT = Effort(
    folder=families.ROOT / "runs" / "own-macro",
    space=BUILT_IN,
    settings={**SETTINGS, "precision": "fp32"},  # in which users' models train
)


def run(progress: Progress, seeds: int = SEEDS, effort: Effort | None = None) -> dict[str, Figure]:
    """Figures `own.macro.share` and of what it stands beside; takes an hour."""
    effort = effort or EFFORT
    truth = load_truth(effort.data / "nas_bench_macro")
    progress(f"the table of {effort.space}")
    table = get_table(effort.space, effort.folder, effort.profile)
    jobs = [(is_own, seed) for seed in range(seeds) for is_own in (False, True)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        ranked = dict(zip(jobs, pool.map(partial(_rank_whole, table, effort), jobs), strict=True))
    own, built_in = (
        [judge_share(truth, ranked[is_own, seed], seed) for seed in range(seeds)] for is_own in (True, False)
    )
    return share_figures(own, built_in)


def share_figures(own: Sequence[float], built_in: Sequence[float]) -> dict[str, Figure]:
    """How far the model's mean share lies behind that of the built-in space; a single seed cannot say."""
    found = {"own.macro.share": shares.over_seeds(own), "own.macro.built_in.share": shares.over_seeds(built_in)}
    if spread := max(shares.spread(own), shares.spread(built_in)):
        behind = (fmean(built_in) - fmean(own)) / spread
        found["own.macro.share_behind"] = Figure(value=behind, unit="sd", n=len(own), bar="<= 1")
    return found


def judge_share(truth: Truth, everything: Sequence[Member], seed: int) -> float:
    """Share of the family of a whole space, its networks named as the built-in space names them."""
    accuracies = truth.of([member.genotype for member in everything]).mean(axis=0)
    volume = shares.make_volume(everything, accuracies)
    scale = shares.make_scale(everything, -accuracies, volume, seed)
    return scale.share(volume([member.genotype for member in families.find(everything, len(everything)).members]))


def _rank_whole(table: LatencyTable, effort: Effort, job: tuple[bool, int]) -> list[Member]:
    """Every network of the space, ranked by a search of the built-in space or of the model."""
    is_own, seed = job
    name = "own" if is_own else "built_in"
    progress = SearchProgress(lambda line: print(f"{name}, seed {seed}: {line}", flush=True))
    settings = dict(effort.settings)
    if is_own:
        own = examine(load_model(f"{FILE}:make_model", seed), Shape(3, BUILT_IN.resolution, BUILT_IN.resolution))
        settings |= {"model": f"{FILE}:make_model", "choices": own.names}
        table = as_table_of(own.space, table)
    cifar = write_cifar10(effort.data / "cifar10_jpeg", effort.folder / "cifar10_jpeg")
    decided_by = identify(families.TRAINING, f"{table.hash} {effort.settings}".encode())
    folder = effort.folder / decided_by[:12] / f"{name}{seed}"
    run = families.train([table], cifar, folder, seed, progress, settings)
    families.forget_scores_of(run, identify(families.SCORING))
    families.score_everything(run, ScoringSettings(), progress)
    (family,) = build_families(run, progress)
    return [
        replace(member, genotype=to_built_in(member.genotype)) if is_own else member for member in family.candidates
    ]


def as_table_of(space: Own, table: LatencyTable) -> LatencyTable:
    """The table of `BUILT_IN` as one of the model: a candidate costs what its ops do."""
    built_in = table.parsed_space
    ops = {
        key: built_in.slot_ops(slot, primitive)
        for slot, choices in enumerate(built_in.slots)
        for column, primitive in enumerate(choices.primitives)
        for key in space.slot_ops(slot, str(column))
    }
    keys = space.op_keys()
    sums = np.zeros((1 + len(keys), 1 + len(table.prices)))
    sums[0, 0] = 1
    for row, key in enumerate(keys, start=1):
        for op in ops[key]:
            sums[row, 1 + table.price_index[op]] += 1
    prices_ms = sums[1:, 1:] @ [price.price_ms for price in table.prices]
    covariance = sums @ np.array(table.covariance) @ sums.T
    deviations_ms = np.sqrt(np.diag(covariance)[1:])
    prices = tuple(
        OpPrice(str(key), ms, sd_ms, ms, ms, ms)
        for key, ms, sd_ms in zip(keys, prices_ms.tolist(), deviations_ms.tolist(), strict=True)
    )
    return replace(
        table,
        space=str(space),
        prices=prices,
        covariance=tuple(map(tuple, covariance.tolist())),
        networks=(),
        kernels=None,
        single_kernels=None,
    )
