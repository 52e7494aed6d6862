"""The searches of every strategy on every device of a ground, seed by seed, kept and resumed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks import Progress
from benchmarks.judging.code_identity import identify
from benchmarks.judging.families import TRAINING
from benchmarks.judging.this_machine import get_table, with_cells
from benchmarks.strategies.ground import GROUNDS, HERE, RUNS, Ground, Known, Landscape
from profiler_agent.timing.stopping import PRESETS, Preset
from search.compare.comparison import Comparison
from search.config import Config, references
from search.data import load_images
from search.family.family import FamilySettings
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress as SearchProgress
from search.strategies import STRATEGIES, Proposal, parse_strategy
from search.strategies.budgets import keeps
from shared.errors import LutnasError
from shared.tables.table import LatencyTable

Place = TypeVar("Place")
Result = TypeVar("Result")

SEEDS = 5
WITHOUT_DEVICE = ("darts", "gdas")
"""Search the same for every device."""
ON_TRUTHS = {"fbnet": "fbnet:rounds=2", "proxylessnas": "proxylessnas:rounds=2", "dca-nas": "dca-nas:runs=1"}
"""Three whole searches at most for all budgets, not seven. On NAS-Bench-201 DCA-NAS' authors take
the mean of their runs, not the best."""


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        strategies: as `search compare` names them, by label.
        devices: of the ground, or `HERE`.
        settings: of `search.config.Config`.
        evaluations: networks that a search may score.
        profile: further options of this machine's profile.
        preset: of the measurements on this machine.
        runs: folder of the runs.
    """

    strategies: Mapping[str, str] = field(default_factory=lambda: {name: name for name in STRATEGIES} | ON_TRUTHS)
    devices: tuple[str, ...] = ("raspi4", "pixel3", "1080ti_1", HERE)
    seeds: int = SEEDS
    settings: Mapping[str, Any] = field(
        default_factory=lambda: {
            "search_resolution": 16,
            "warmup_steps": 500,
            "search_steps": 500,
            "threads": 1,
            "whole_space": 0,
        }
    )
    evaluations: int = FamilySettings.candidates
    profile: tuple[str, ...] = ("--calibration", "60", "--held-out", "60")
    preset: Preset = PRESETS["standard"]
    runs: Path = RUNS


@dataclass(frozen=True)
class Searched:
    """A search, and what it hands over for each budget, by label: a genotype's string or None.

    Attributes:
        searches: whole searches in it.
        failure: why it came to no end; None if it did.
        repeated: whether it stands for the search on the first device.
    """

    device: str
    strategy: str
    seed: int
    seconds: float = 0.0
    images: int = 0
    searches: float = 0.0
    networks: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    failure: str | None = None
    repeated: bool = False


def settled(plan: Plan, name: str) -> Plan:
    """The plan with a folder of runs that belongs to this code, its settings and the ground."""
    settings = repr((sorted(plan.settings.items()), plan.evaluations)).encode()
    return replace(plan, runs=plan.runs / identify(("search.strategies", *TRAINING), settings)[:12] / name)


def with_fewer_updates(plan: Plan, by: int) -> Plan:
    """The plan with a half, a third, … of the updates of every search."""
    fewer = {name: plan.settings[name] // by for name in ("warmup_steps", "search_steps")}
    return replace(plan, settings={**plan.settings, **fewer})


def search_all(name: str, plan: Plan, progress: Progress) -> list[Searched]:
    """Search with every seed on every device, in parallel.

    Args:
        plan: settled.
    """
    GROUNDS[name]().make_data_dir()  # before the workers, and before anything takes long
    if HERE in plan.devices:
        progress("profiling this machine")
        get_table(GROUNDS[name]().whole_space, plan.runs / HERE, plan.profile)
    progress(f"{plan.seeds} seeds of {len(plan.strategies)} strategies on {len(plan.devices)} devices")
    places = [(seed, device) for seed in range(plan.seeds) for device in plan.devices]
    found = in_parallel(partial(search_device, name, plan), places)
    return on_every_device(plan, dict(zip(places, found, strict=True)))


def in_parallel(search: Callable[[Place], Result], places: Sequence[Place]) -> list[Result]:
    """The results for all places, each in a process with a thread."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return list(pool.map(search, places))


def on_every_device(plan: Plan, searched: Mapping[tuple[int, str], Mapping[str, Searched]]) -> list[Searched]:
    """The searches of each seed and device. What knows no device was searched on the first alone."""
    first = plan.devices[0]
    return [
        found.get(label) or replace(searched[seed, first][label], device=device, repeated=True)
        for (seed, device), found in searched.items()
        for label in plan.strategies
    ]


def search_device(name: str, plan: Plan, place: tuple[int, str]) -> dict[str, Searched]:
    """Every strategy with a seed on a device, by label; on all but the first those that know devices.

    A failure is a line, and the others go on.
    """
    seed, device = place
    ground = GROUNDS[name]()
    if device == HERE:
        table = with_cells(whole_table(ground, plan), ground.space)
    else:
        table = next(table for table in ground.make_tables(seed) if table.device == device)
    comparison = begin(ground, plan, device, table, get_landscapes(ground, plan)[device].budgets_ms, seed)
    return {
        label: search(comparison, device, label, text, seed)
        for label, text in plan.strategies.items()
        if device == plan.devices[0] or text.partition(":")[0] not in WITHOUT_DEVICE
    }


def search(comparison: Comparison, device: str, label: str, text: str, seed: int) -> Searched:
    """Search with a strategy, or read its earlier result."""
    try:
        unit = comparison.run_unit(parse_strategy(text), seed)
    except LutnasError as error:
        comparison.progress.line(f"{device}, {text}: {error}")
        return Searched(device, label, seed, failure=str(error))
    outcome, config = unit.outcome, comparison.config
    per_search = config.total_steps * config.paths_per_step * config.batch_size
    networks = hand_over(label, outcome.proposals, comparison)
    searches = outcome.training_images / per_search
    return Searched(device, label, seed, unit.seconds, outcome.training_images, searches, networks)


def hand_over(name: str, proposals: Sequence[Proposal], comparison: Comparison) -> dict[str, tuple[str | None, ...]]:
    """What a strategy hands over for each budget of a comparison, by label."""
    table, budgets_ms = comparison.table, comparison.budgets_ms
    model, space = LatencyModel(table), table.parsed_space

    def best_within(budget_ms: float) -> Proposal | None:
        uppers_ms = model.upper_ms([p.genotype for p in proposals], comparison.config.confidence)
        within = [p for p, upper_ms in zip(proposals, uppers_ms, strict=True) if keeps(upper_ms, budget_ms)]
        return min(within, key=lambda proposal: proposal.rank or math.inf, default=None)

    def searched_for(budget_ms: float, derived: bool) -> Proposal | None:
        return next((p for p in proposals if p.budget_ms == budget_ms and p.derived is derived), None)

    if any(proposal.budget_ms is not None for proposal in proposals):
        chosen = {
            label: [searched_for(budget_ms, derived) for budget_ms in budgets_ms]
            for label, derived in ((name, True), (f"{name}.decoded", False))
        }
    elif any(proposal.rank is not None for proposal in proposals):
        chosen = {name: list(map(best_within, budgets_ms))}
    else:
        chosen = {name: [next(iter(proposals), None)] * len(budgets_ms)}
    return {
        label: tuple(None if proposal is None else space.format(proposal.genotype) for proposal in row)
        for label, row in chosen.items()
    }


def begin(
    known: Known, plan: Plan, device: str, table: LatencyTable, budgets_ms: Sequence[float], seed: int
) -> Comparison:
    """The comparison of a device and a seed: a seed has a table of its own."""
    path = plan.runs / device / f"seed-{seed}"
    path.mkdir(parents=True, exist_ok=True)
    space, data_dir = table.parsed_space, known.make_data_dir()
    images = load_images(known.dataset, space.resolution, space.image_channels, data_dir)
    config = Config(
        tables=references([table]),
        lut_url="",
        space=table.space,
        dataset=images.name,
        data_fingerprint=images.fingerprint,
        data_dir=None if data_dir is None else str(data_dir),
        **plan.settings,
    )
    progress = SearchProgress(lambda line: print(f"seed {seed}: {line}", file=sys.stderr, flush=True))
    comparison = Comparison(
        path, config, table, images, tuple(budgets_ms), plan.evaluations, progress, lambda: False, known.look
    )
    comparison.claim()
    return comparison


def whole_table(ground: Ground, plan: Plan) -> LatencyTable:
    """This machine's table of the truth's networks."""
    return get_table(ground.whole_space, plan.runs / HERE, plan.profile)


def get_landscapes(ground: Ground, plan: Plan) -> dict[str, Landscape]:
    """All networks on every device."""
    return {
        device: ground.landscape(device, whole_table(ground, plan) if device == HERE else None)
        for device in plan.devices
    }
