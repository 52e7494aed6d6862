"""Strategies on a device: each with every seed, then all their networks before the same judge.

    setup/               config, table and data of the comparison, as in a run's folder
    terms.json           budgets and evaluations
    one-shot/seed-S/     a run directory: the supernet of `random` and `nsga2` with that seed
    units/NAME/seed-S/   a strategy's checkpoints, and unit.json once it is finished
    judge/               a run directory: the one-shot supernet that scores all networks

Nothing finished is done again: the same command with another strategy or seed adds it to the results.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from search.compare.comparison_figures import Result, Unit, judge, proposed
from search.config import Config
from search.data import ImageSet
from search.family.family import Member
from search.process.progress import Progress
from search.ranking.scoring import ScoringSettings
from search.runs.run_directory import RunDirectory, find_value, write_value
from search.strategies import Bench, NamedStrategy
from search.strategies.one_shot import one_shot_config, open_ranker, stopping, train_run
from search.training.training import Stopped
from shared.errors import WrongUse
from shared.spaces import Genotype, Space
from shared.tables.table import LatencyTable
from shared.wire import content_hash, to_wire

JUDGE_SEED = 1_000_003
"""Of weights and splits that no strategy has."""
UNIT_FILE = "unit.json"
SECONDS_FILE = "seconds.json"
TERMS_FILE = "terms.json"


@dataclass(frozen=True)
class Terms:
    """Budgets and evaluations; every start of a comparison has the same."""

    budgets_ms: tuple[float, ...]
    evaluations: int

    def __str__(self) -> str:
        budgets = ", ".join(f"{budget_ms:.4g}" for budget_ms in self.budgets_ms)
        return f"budgets {budgets} ms and {self.evaluations} evaluations"


@dataclass(frozen=True, eq=False)
class Comparison:
    """What all units have in common.

    Attributes:
        path: of its folder, there already.
        config: of all units, but for the seed.
        budgets_ms: rising.
        evaluations: most networks that a unit scores on a supernet.
        stopped: asked after every update.
        look: of every score.
    """

    path: Path
    config: Config
    table: LatencyTable
    images: ImageSet
    budgets_ms: tuple[float, ...]
    evaluations: int
    progress: Progress
    stopped: Stopped
    look: ScoringSettings = field(default_factory=ScoringSettings)

    def claim(self) -> None:
        """Write budgets and evaluations, or compare them with those of an earlier start.

        Raises:
            WrongUse: the earlier start had others.
            CorruptFile: their file is damaged.
        """
        path, terms = self.path / TERMS_FILE, Terms(self.budgets_ms, self.evaluations)
        begun = find_value(Terms, path)
        if begun is None:
            write_value(path, terms)
        elif begun != terms:
            raise WrongUse(f"{self.path} was begun with {begun}, not {terms}; choose another --out")

    def run_unit(self, named: NamedStrategy, seed: int) -> Unit:
        """Search with a strategy and a seed, or read its earlier result.

        Raises:
            SearchStopped: `stopped()`; everything is saved.
        """
        folder = self.path / "units" / named.folder_name / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        if (found := find_unit(folder, self.setting, self.table.parsed_space)) is not None:
            return found
        self.progress.line(f"{named.text}, seed {seed}")
        bench = self.bench(folder, seed)
        shared_s = 0.0
        if named.strategy.uses_one_shot:
            one_shot, shared_s = self._one_shot(bench)
            bench = replace(bench, one_shot=one_shot)
        with _timed(folder):
            outcome = named.strategy.search(bench)
        unit = Unit(named.text, seed, self.setting, outcome, shared_s + _seconds(folder))
        write_value(folder / UNIT_FILE, unit, {Genotype: self.table.parsed_space.format})
        return unit

    def with_earlier(self, units: Sequence[Unit]) -> list[Unit]:
        """These units, then every other unit of the setting that an earlier start finished.

        Raises:
            CorruptFile: one is damaged.
        """
        known = {(unit.strategy, unit.seed) for unit in units}
        folders = sorted(self.path.glob(f"units/*/seed-*/{UNIT_FILE}"))
        found = [find_value(Unit, path, {Genotype: self.table.parsed_space.parse}) for path in folders]
        earlier = [unit for unit in found if unit is not None and unit.setting == self.setting]
        others = [unit for unit in earlier if (unit.strategy, unit.seed) not in known]
        return [*units, *sorted(others, key=lambda unit: (unit.strategy, unit.seed))]

    def judged(self, units: Sequence[Unit]) -> list[Result]:
        """Score every proposed network, and give the results of the units in their order.

        Raises:
            SearchStopped: `stopped()`; everything is saved.
        """
        folder = self.path / "judge"
        config = one_shot_config(self.config, JUDGE_SEED)
        self.progress.line("the judge: a supernet that no strategy trained")
        run = train_run(folder, config, self.table, self.images, self.progress, self.stopped)
        bench, genotypes = self.bench(folder, JUDGE_SEED), proposed(units)
        with self.progress.phase("scoring networks of all strategies", len(genotypes)) as phase:
            members: list[Member] = open_ranker(bench, run).rank(genotypes, stopping(bench, phase.advance))
        range_ms = bench.decoder.smallest_ms, bench.decoder.largest_ms
        return judge(units, dict(zip(genotypes, members, strict=True)), self.budgets_ms, range_ms)

    def bench(self, folder: Path, seed: int) -> Bench:
        """The bench of a search."""
        return Bench(
            replace(self.config, seed=seed),
            self.table,
            self.images,
            self.budgets_ms,
            folder,
            self.evaluations,
            self.progress,
            look=self.look,
            stopped=self.stopped,
        )

    @property
    def setting(self) -> str:
        """Hash of all that compared units have in common."""
        config = replace(self.config, seed=0, threads=1)
        return content_hash([to_wire(config), list(self.budgets_ms), self.evaluations, to_wire(self.look)])

    def _one_shot(self, bench: Bench) -> tuple[RunDirectory, float]:
        """The supernet that strategies of a seed score with, and the seconds of its training."""
        seed = bench.config.seed
        folder = self.path / "one-shot" / f"seed-{seed}"
        folder.parent.mkdir(exist_ok=True)
        with _timed(folder):
            config = one_shot_config(bench.config, seed)
            run = train_run(folder, config, self.table, self.images, self.progress, self.stopped)
        return run, _seconds(folder)


def find_unit(folder: Path, setting: str, space: Space) -> Unit | None:
    """A finished unit; None if there is none yet.

    Raises:
        CorruptFile: it is damaged.
        WrongUse: it belongs to a comparison of other settings.
    """
    path = folder / UNIT_FILE
    unit = find_value(Unit, path, {Genotype: space.parse})
    if unit is not None and unit.setting != setting:
        raise WrongUse(f"{path} was found with other settings, budgets or evaluations; choose another --out")
    return unit


@contextmanager
def _timed(folder: Path) -> Iterator[None]:
    """Add the time within to the seconds of the folder, after an interruption too."""
    begun_s = time.monotonic()
    try:
        yield
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        write_value(folder / SECONDS_FILE, _seconds(folder) + time.monotonic() - begun_s)


def _seconds(folder: Path) -> float:
    return find_value(float, folder / SECONDS_FILE) or 0.0
