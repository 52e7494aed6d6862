"""A seed of the NAS-Bench-Macro benchmark: supernet and families, from this machine's table alone.

    table      of this machine, measured by its agent
    supernet   NAS-Bench-Macro as it is, CIFAR-10 (JPEG copy) pooled to 16 x 16
    families   by each strategy, at most 24 members

This module never sees an accuracy of the benchmark. `benchmarks.judging.nas_bench_macro_truth`
judges the results. Table and runs are kept in runs/nas-bench-macro and resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.judging import families
from benchmarks.judging.code_identity import identify
from benchmarks.latency.imported import DATA
from benchmarks.search.cifar10_jpeg import write_cifar10
from search.process.progress import Progress
from search.ranking.scoring import ScoringSettings
from shared.spaces import Space, make_space
from shared.tables.table import LatencyTable

RUNS = families.ROOT / "runs" / "nas-bench-macro"
SPACE = make_space("nas-bench-macro")
LOOK = ScoringSettings()
SETTINGS: Mapping[str, Any] = {**families.SETTINGS, "warmup_steps": 750, "search_steps": 750}
"""A quarter of NAS-Bench-201's updates: a path of this space takes five times as long."""


@dataclass(frozen=True)
class Effort:
    """What a run of the benchmark spends.

    Attributes:
        data: folder of the published accuracies and images.
        folder: of table and runs.
        space: a test has a smaller space than the data set's.
        profile: more options of `profiler-agent profile`.
        settings: of a search.
        counts: of networks to score, for the curves.
    """

    data: Path = DATA
    folder: Path = RUNS
    space: Space = SPACE
    profile: Sequence[str] = ("--calibration", "60", "--held-out", "60")
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)
    counts: Sequence[int] = families.COUNTS


def find_families(table: LatencyTable, seed: int, effort: Effort, progress: Progress) -> families.SeedResult:
    """Every strategy's families of a seed, from its stored run or a new run.

    Raises:
        DataMissing: the images are not on this machine.
    """
    decided_by = f"{table.hash} {effort.settings}".encode()
    trained_by = identify(families.TRAINING, decided_by)
    cifar = write_cifar10(effort.data / "cifar10_jpeg", effort.folder / "cifar10_jpeg")
    folder = effort.folder / trained_by[:12] / f"seed{seed}"
    run = families.train([table], cifar, folder, seed, progress, effort.settings)
    families.forget_scores_of(run, identify(families.SCORING))
    families.score_everything(run, LOOK, progress)
    return families.find_families(run, LOOK, progress, effort.counts)
