"""Members of a family beside networks made by hand, on this machine.

    tables     of this machine, measured by its agent: `mobile` in 8 and in 16 channels
    families   of a search in each, for each data set; `search choose` says which of the two has the
               better network for a budget, by images held out
    by hand    ladders of ResNet, VGG, MobileNetV2 and ShuffleNetV2 (`benchmarks.by_hand.networks`)

Budgets begin where the fastest network made by hand lies, and end at eight times that. Members are
picked for the budgets; then all networks are measured in the same rounds, as the agent measures a
network for a verification. All within the largest budget are trained from random weights with the
same recipe, that of `search ladder`, for as many epochs, and judged on all test images.

gain:    accuracy of a member less that of the most accurate network made by hand that is within the
         budget; mean over the budgets.
behind:  budgets at which the member is less accurate by more than the spread over the seeds.

Everything is kept in a folder of runs/ and resumed. benchmarks/results/by_hand_points.json has every
network; `python docs/figures/by_hand.py` draws them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks import Progress
from benchmarks.by_hand.networks import CLASSES, IMAGE_CHANNELS, LADDERS, SIDE, Rung
from benchmarks.judging import families
from benchmarks.judging.from_random_weights import Build, train
from benchmarks.judging.this_machine import get_table
from benchmarks.latency.imported import DATA
from benchmarks.latency.in_process import measure_models
from benchmarks.report import Figure
from benchmarks.search.cifar10_jpeg import write_cifar10
from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.sessions import local_runtime
from profiler_agent.timing.stopping import PRESETS, Preset
from search.config import PRESETS as SEARCH_PRESETS
from search.config import Config
from search.data import ImageSet
from search.deploy.choice import Contender, choose
from search.device.kernel_counts import Counts
from search.family.build import build_families
from search.family.family import Picker
from search.process.progress import Progress as SearchProgress
from search.runs.run_directory import DeviceRun, find_value, on_device, read_json, write_value
from search.supernet import Network
from search.training.precision import choose_precision
from shared.graphs import build_graph
from shared.measurements.graph_spec import NetworkGraph
from shared.spaces import Genotype, Space, make_space
from shared.tables.table import LatencyTable
from shared.wire import content_hash, to_wire

SEEDS, EPOCHS, BUDGETS, FACTOR = 3, 2.0, 6, 8.0
FIRST_BUDGET = 1.05
"""In latencies of the fastest network made by hand, so that it is within the first budget."""
RUNS = families.ROOT / "runs" / "by_hand"
POINTS = families.ROOT / "benchmarks" / "results" / "by_hand_points.json"
SPACES = tuple(
    make_space("mobile", resolution=SIDE, channels=channels, classes=CLASSES, image_channels=IMAGE_CHANNELS)
    for channels in (8, 16)
)
"""The budgets lie between the fastest network in 8 channels and slow ones in 16."""
GAIN_BAR, BEHIND_BAR = ">= .5", "<= 0"


@dataclass(frozen=True)
class Effort:
    """What a run of the benchmark spends.

    Attributes:
        folder: of everything that is kept.
        tables: their folder, if it is another.
        spaces: of the searches.
        ladders: networks made by hand.
        data_set: its name in figures, that for `search`, and the folder of its files; None: where
            they usually are.
        points: file for every network that was trained.
        profile: more options of `profiler-agent profile`.
        settings: of the searches.
        pilot_epochs: of the trainings that choose between searches.
        epochs: of each training; may be a fraction.
        preset: of the measurements.
    """

    folder: Path = RUNS
    tables: Path | None = None
    spaces: Sequence[Space] = SPACES
    ladders: Sequence[Rung] = LADDERS
    data_set: tuple[str, str, Path | None] = ("fashion-mnist", "fashion-mnist", None)
    points: Path = POINTS
    profile: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: {**SEARCH_PRESETS["quick"], "search_resolution": 16})
    pilot_epochs: float = 1.0
    epochs: float = EPOCHS
    preset: Preset = PRESETS["standard"]


@dataclass(frozen=True)
class Point:
    """A network on a data set.

    Attributes:
        name: a genotype, or that of a rung.
        budget_ms: None for a network made by hand.
        accuracies: by seed, in percent.
    """

    name: str
    budget_ms: float | None
    measured_ms: float
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


@dataclass(frozen=True)
class _Kept:
    """Latencies by name."""

    numbers: dict[str, float]


def run_cifar_10(progress: Progress, seeds: int = SEEDS) -> dict[str, Figure]:
    """Figures `by_hand.cifar-10.*`; as `run`.

    Raises:
        DataMissing: CIFAR-10 is not on this machine.
    """
    folder = RUNS.with_name("by_hand_cifar_10")
    images = write_cifar10(DATA / "cifar10_jpeg", folder / "cifar10_jpeg")
    return run(progress, seeds, Effort(folder, RUNS, data_set=("cifar-10", "cifar-10", images)))


def run(progress: Progress, seeds: int = SEEDS, effort: Effort | None = None) -> dict[str, Figure]:
    """Figures `by_hand.*`; takes hours.

    Raises:
        BudgetTooSmall: no network of the space is as fast as the fastest network made by hand.
    """
    effort = effort or Effort()
    folder = effort.folder
    progress("by_hand: the tables of this machine")
    kept = effort.tables or folder
    tables = [get_table(space, kept, effort.profile, f"table-{_name(space)}.json") for space in effort.spaces]
    table = tables[0]
    models = {rung.name: rung.export() for rung in effort.ladders}
    first_ms = FIRST_BUDGET * min(measure_ms(models, table, folder / "made_by_hand.json", effort.preset).values())
    budgets_ms = np.geomspace(first_ms, FACTOR * first_ms, BUDGETS).tolist()
    members, images = pick(tables, budgets_ms, effort, progress)
    models |= {_text(*member): build_graph(NetworkGraph(*member)) for member in members}
    progress(f"by_hand: {len(models)} networks in the same rounds")
    measured_ms = measure_ms(models, table, folder / "latencies.json", effort.preset)
    within = [rung for rung in effort.ladders if measured_ms[rung.name] <= budgets_ms[-1]]
    builders: dict[str, Build] = {rung.name: rung.build for rung in within}
    builders |= {_text(*member): partial(Network, *member) for member in members}
    accuracies = train(images, builders, effort.epochs, seeds, effort.folder / "trained.json", progress)
    named = [(rung.name, None) for rung in within]
    named += zip((_text(*member) for member in members), budgets_ms, strict=True)
    points = [Point(name, budget, measured_ms[name], accuracies[name]) for name, budget in named]
    _keep(effort.points, effort.data_set[0], points)
    return judge(effort.data_set[0], points)


def _keep(path: Path, data_set: str, points: Sequence[Point]) -> None:
    """Write the points of a data set beside those of others."""
    kept = read_json(path) if path.is_file() else {}
    path.write_text(json.dumps({**kept, data_set: to_wire(list(points))}, indent=2) + "\n", encoding="utf-8")


def judge(data_set: str, points: Sequence[Point]) -> dict[str, Figure]:
    """Gains of the members of a data set over the networks made by hand."""
    by_hand = sorted((point for point in points if point.budget_ms is None), key=lambda point: point.measured_ms)
    gains, behind, met = [], 0, 0
    for member in points:
        if member.budget_ms is None:
            continue
        within = [point for point in by_hand if point.measured_ms <= member.budget_ms]
        rival = max(within or by_hand[:1], key=lambda point: point.mean)
        gains.append(member.mean - rival.mean)
        behind += gains[-1] < -max(member.spread, rival.spread)
        met += member.measured_ms <= member.budget_ms
    n, prefix = len(gains), f"by_hand.{data_set}"
    spread = f"{min(gains):+.2f} to {max(gains):+.2f}"
    return {
        f"{prefix}.gain": Figure(value=fmean(gains), unit="points", n=n, spread=spread, bar=GAIN_BAR),
        f"{prefix}.behind": Figure(value=behind, n=n, bar=BEHIND_BAR),
        f"{prefix}.met": Figure(value=met, n=n, bar=f">= {n}"),
        f"{prefix}.seeds": Figure(value=len(points[0].accuracies)),
    }


def measure_ms(models: Mapping[str, bytes], table: LatencyTable, path: Path, preset: Preset) -> dict[str, float]:
    """As `measure_models`. `path` keeps them; others are measured anew."""
    kept = find_value(_Kept, path)
    if kept is None or kept.numbers.keys() != models.keys():
        kept = _Kept(measure_models(models, table, preset))
        write_value(path, kept)
    return kept.numbers


def _name(space: Space) -> str:
    return f"c{space.channels}"


def _text(space: Space, genotype: Genotype) -> str:
    return f"{_name(space)}:{space.format(genotype)}"


def pick(
    tables: Sequence[LatencyTable], budgets_ms: Sequence[float], effort: Effort, progress: Progress
) -> tuple[list[tuple[Space, Genotype]], ImageSet]:
    """A member for each budget, from a search in each space on the data set, and its images."""
    told, runs, pickers = SearchProgress(progress), [], []
    for space, table in zip(effort.spaces, tables, strict=True):
        runs.append(_search(space, table, effort, progress, told))
        pickers.append(Picker(runs[-1], count_kernels=partial(_count_kernels, space, {})))
    images = runs[0].load_images()
    if len(runs) == 1:
        return [(effort.spaces[0], pickers[0].pick(each, told).best.genotype) for each in budgets_ms], images
    progress("by_hand: which search has the better network")
    asked = content_hash([[str(run.path) for run in runs], list(budgets_ms), effort.pilot_epochs])
    path, chosen = effort.folder / f"chosen-{asked[:12]}.json", []
    contenders = find_value(tuple[Contender, ...], path)
    if contenders is None:
        contenders = tuple(choose(runs, pickers, budgets_ms, effort.pilot_epochs, told))
        write_value(path, contenders)
    for best in (each for each in contenders if each.is_best):
        space = next(run.space for run in runs if str(run.path) == best.run)
        chosen.append((space, space.parse(best.network)))
    return chosen, images


def _search(space: Space, table: LatencyTable, effort: Effort, progress: Progress, told: SearchProgress) -> DeviceRun:
    settings, (_, data_set, data_dir) = dict(effort.settings), effort.data_set
    code = families.identify_family(table, effort.settings)
    folder = effort.folder / code[:12] / f"search-{_name(space)}"
    if "precision" not in settings and not folder.exists():
        batch = settings.get("batch_size", Config.batch_size)
        settings["precision"] = choose_precision(space, settings["search_resolution"], batch, progress)
    progress(f"by_hand: a search in {space} on {data_set}")
    run = on_device(families.train([table], data_dir, folder, 0, told, settings, data_set))
    if not run.family_path.exists():
        build_families(run, told)
    return run


def _count_kernels(space: Space, known: dict[Genotype, Mapping[str, int]], genotypes: Sequence[Genotype]) -> Counts:
    """Kernels counted here, as the device's agent would; `known` keeps them."""
    for genotype in genotypes:
        if genotype not in known:
            known[genotype] = count_kernels("network", build_graph(NetworkGraph(space, genotype)), local_runtime())
    return known
