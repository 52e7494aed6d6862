"""Strategies side by side on a device: every strategy with every seed, then all their networks before one judge.

    setup/               config, table and data of the comparison, as in a run's folder
    terms.json           budgets and evaluations
    one-shot/seed-S/     a run directory: what `random` and `nsga2` of that seed score with
    units/NAME/seed-S/   a strategy's checkpoints, and unit.json once it is finished
    judge/               a run directory: the one-shot supernet that all networks are scored by

What is finished is not done again: another strategy or seed is added to a comparison by asking for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from search.compare.comparison_figures import Result, Unit, judge, proposed
from search.config import Config
from search.data import ImageSet
from search.family.candidates import Member
from search.process.atomic_files import write_atomically
from search.process.progress import Progress
from search.runs.run_directory import RunDirectory
from search.strategies import Bench, NamedStrategy
from search.strategies.one_shot import one_shot_config, open_ranker, stopping, train_run
from search.training.training import Stopped
from shared.errors import CorruptFile, InvalidValue, WrongUse
from shared.spaces import Genotype, Space
from shared.tables.table import LatencyTable
from shared.wire import content_hash, from_wire, to_wire

JUDGE_SEED = 1_000_003
"""Of weights and splits that no strategy has."""
UNIT_FILE = "unit.json"
SECONDS_FILE = "seconds.json"
TERMS_FILE = "terms.json"


@dataclass(frozen=True)
class Terms:
    """What every start of a comparison has to have alike, besides the config."""

    budgets_ms: tuple[float, ...]
    evaluations: int

    def __str__(self) -> str:
        budgets = ", ".join(f"{budget_ms:.4g}" for budget_ms in self.budgets_ms)
        return f"budgets {budgets} ms and {self.evaluations} evaluations"


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is the same for all units.

    Attributes:
        path: of its folder, there already.
        config: of all units but for the seed.
        table: of the device.
        images: of the config's data set.
        budgets_ms: rising.
        evaluations: most networks that a unit scores on a supernet.
        progress: told what happens.
        stopped: asked after every update.
    """

    path: Path
    config: Config
    table: LatencyTable
    images: ImageSet
    budgets_ms: tuple[float, ...]
    evaluations: int
    progress: Progress
    stopped: Stopped

    def claim(self) -> None:
        """Write down budgets and evaluations, which every later start of this comparison has to have, too.

        Raises:
            WrongUse: it was begun with others.
            CorruptFile: what was written down is damaged.
        """
        path, terms = self.path / TERMS_FILE, Terms(self.budgets_ms, self.evaluations)
        if not path.exists():
            write_atomically(path, json.dumps(to_wire(terms)).encode() + b"\n")
            return
        try:
            begun = from_wire(Terms, json.loads(path.read_bytes()))
        except (ValueError, InvalidValue) as error:
            raise CorruptFile(f"{path} is damaged: {error}") from error
        if begun != terms:
            raise WrongUse(f"{self.path} was begun with {begun}, not {terms}; choose another --out")

    def run_unit(self, named: NamedStrategy, seed: int) -> Unit:
        """Search with a strategy and a seed, or read what it found before.

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
        written = to_wire(unit, {Genotype: self.table.parsed_space.format})
        write_atomically(folder / UNIT_FILE, json.dumps(written, indent=1).encode() + b"\n")
        return unit

    def judged(self, units: Sequence[Unit]) -> list[Result]:
        """Score every network that was handed over and measure the units, in their order.

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
        """Of one search."""
        return Bench(
            replace(self.config, seed=seed),
            self.table,
            self.images,
            self.budgets_ms,
            folder,
            self.evaluations,
            self.progress,
            stopped=self.stopped,
        )

    @property
    def setting(self) -> str:
        """Hash of all that has to be equal for units to be compared."""
        config = replace(self.config, seed=0, threads=1)
        return content_hash([to_wire(config), list(self.budgets_ms), self.evaluations])

    def _one_shot(self, bench: Bench) -> tuple[RunDirectory, float]:
        """The supernet that strategies of a seed score with, and the seconds that it took."""
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
    try:
        unit = from_wire(Unit, json.loads(path.read_bytes()), texts={Genotype: space.parse})
    except FileNotFoundError:
        return None
    except (ValueError, InvalidValue) as error:
        raise CorruptFile(f"{path} is damaged ({error}); remove it to search again") from error
    if unit.setting != setting:
        raise WrongUse(f"{path} was found with other settings, budgets or evaluations; choose another --out")
    return unit


@contextmanager
def _timed(folder: Path) -> Iterator[None]:
    """Add the time within to what the folder's work took before, also if it is interrupted; a kill loses it."""
    begun_s = time.monotonic()
    try:
        yield
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        total = json.dumps(_seconds(folder) + time.monotonic() - begun_s)
        write_atomically(folder / SECONDS_FILE, total.encode())


def _seconds(folder: Path) -> float:
    try:
        return float(json.loads((folder / SECONDS_FILE).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return 0.0
