"""Fashion-MNIST in `darts`, 3 cells and 16 channels: networks of a search, trained three times.

The sizes are those of DARTS-CC (Firsov, 2024) after 300 epochs: test accuracy .865 to .873 at about
20 thousand parameters, .92 to .93 at 53 to 115 thousand. No network of this skeleton has fewer than
20,954.

This machine is profiled, and the search is for it. The rule for the trained networks was fixed
before any training: for each of `SIZES`, the best-ranked of the networks that the alphas name on a
grid of trade-offs, with parameters in place of the latency. The recipe is that of `search train`
for few epochs. Runs are kept in runs/fmnist and resumed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks import Progress
from benchmarks.judging.code_identity import identify
from benchmarks.judging.families import BUILDING
from benchmarks.report import Figure
from benchmarks.stack import Stack, StackError, running_stack, script, this_device
from search.alphas.trade_offs import trade_off_log_probabilities
from search.decoding.decoding import Band, decode_queues, make_decoder
from search.family.family import Ranker
from search.latency.latency_model import LatencyModel
from search.ranking.scoring import open_scorer
from search.runs.run_directory import RunDirectory, on_device
from shared.spaces import Genotype
from shared.spaces.op_key import parse_op_key
from shared.spaces.primitives import parameter_count
from shared.tables.table import LatencyTable

RUNS = Path(__file__).parents[2] / "runs" / "fmnist"
SPACE = ("--space", "darts", "--resolution", "32", "--channels", "16", "--depth", "3", "--image-channels", "1")
PRESET, SEEDS, CHOICES, TRADE_OFFS = "quick", 3, 24, 5
HALF_SIZE = 0.5
"""Share of the epochs with a quarter of the pixels, for more epochs in the same time."""


@dataclass(frozen=True)
class Size:
    """Range of a network's parameters, length of its training, bar of its accuracy."""

    fewest: int
    most: int
    epochs: int
    bar: str


SIZES: Mapping[str, Size] = {"20k": Size(20_000, 22_000, 16, ">= .90"), "80k": Size(72_000, 80_000, 15, ">= .93")}


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.fmnist.*`; takes an hour and a half on two cores."""
    run_directory = get_run(progress)
    networks = {name: choose(run_directory, size) for name, size in SIZES.items()}
    train_in_parallel(run_directory.path, networks, progress)
    figures: dict[str, Figure] = {}
    for name, genotype in networks.items():
        figures |= figures_of(name, run_directory, genotype)
    return figures


def get_run(progress: Progress) -> RunDirectory:
    """The finished search of runs/fmnist."""
    code = identify(BUILDING, repr((SPACE, PRESET)).encode())
    path = RUNS / code[:12] / "search"
    if not (path / "family.json").exists():
        with running_stack(RUNS) as stack:
            _search(stack, path, progress)
    return RunDirectory.open(path)


def _search(stack: Stack, path: Path, progress: Progress) -> None:
    if (path / "config.json").exists():
        stack.search("--resume", "--out", str(path))
        return
    progress("profiling this machine: darts")
    stack.profile(this_device(), *SPACE)
    progress("searching on fashion-mnist: darts")
    stack.search(
        "--device", this_device(), "--lut-url", stack.url, "--space", "darts", "--dataset", "fashion-mnist",
        "--preset", PRESET, "--out", str(path),
    )  # fmt: skip


def choose(run_directory: RunDirectory, size: Size) -> Genotype:
    """The best-ranked of the networks that the alphas name within a range of parameters."""
    table = on_device(run_directory).table
    decoder = make_decoder(LatencyModel(parameters_as_prices(table)), run_directory.config.confidence)
    alphas = trade_off_log_probabilities(run_directory.hypernetwork(), table, TRADE_OFFS)
    band = Band(budget_ms=size.most / 1000, floor_ms=size.fewest / 1000)
    named = decode_queues(decoder, list(alphas.values()), [band], CHOICES)[0][:CHOICES]
    ranker = Ranker(LatencyModel(table), open_scorer(run_directory), run_directory.config.confidence)
    best = min(ranker.rank(named), key=lambda member: member.rank)
    return best.genotype


def parameters_as_prices(table: LatencyTable) -> LatencyTable:
    """The table with thousands of parameters in place of milliseconds."""
    space = table.parsed_space
    prices = tuple(
        replace(price, price_ms=parameter_count(parse_op_key(price.op_key)) / 1000) for price in table.prices
    )
    nothing = (0.0,) * (len(prices) + 1)
    counted = replace(
        table, base_ms=0.0, prices=prices, covariance=(nothing,) * len(nothing), relative_spread=0.0, kernels=None
    )
    fastest = space.fastest()
    base = space.parameter_count(fastest) / 1000 - float(LatencyModel(counted).mean_and_sd_ms([fastest])[0][0])
    return replace(counted, base_ms=base)


def train_in_parallel(path: Path, networks: Mapping[str, Genotype], progress: Progress) -> None:
    """Train every size in a process with a thread, its seeds in turn.

    Raises:
        StackError: a training failed.
    """
    running = []
    for name, genotype in networks.items():
        command = train_command(path, genotype, SIZES[name].epochs)
        progress(f"training {name}, {SEEDS} seeds: {path.parent / name}.log")
        with (path.parent / f"{name}.log").open("a") as log:
            running.append(subprocess.Popen(script(command), stdout=log, stderr=log, stdin=subprocess.DEVNULL))
    failed = [process.args for process in running if process.wait()]
    if failed:
        raise StackError(f"`search train` failed; its last words are in {path.parent}/*.log")


def train_command(path: Path, genotype: Genotype, epochs: int) -> list[str]:
    """The command of a user."""
    space = RunDirectory.open(path).space
    return [
        "search", "train", "--run", str(path), "--genotype", space.format(genotype), "--seeds", str(SEEDS),
        "--epochs", str(epochs), "--half-size", str(HALF_SIZE), "--threads", "1",
    ]  # fmt: skip


def figures_of(name: str, run_directory: RunDirectory, genotype: Genotype) -> dict[str, Figure]:
    """Figures from the results of `search train`."""
    size, space = SIZES[name], run_directory.space
    found = [training for training in trainings(run_directory.path) if training["genotype"] == space.format(genotype)]
    found = [training for training in found if training["settings"]["epochs"] == size.epochs]
    accuracies = [training["test_accuracy"] / 100 for training in found]
    seeds = sorted(training["settings"]["seed"] for training in found)
    if len(set(seeds)) != SEEDS or len(seeds) != SEEDS:
        raise StackError(f"{run_directory.path} has trainings with seeds {seeds} of {space.format(genotype)}")
    prefix = f"search.fmnist.{name}"
    return {
        f"{prefix}.accuracy": Figure(value=fmean(accuracies), n=SEEDS, spread=stdev(accuracies), bar=size.bar),
        f"{prefix}.parameters": Figure(value=space.parameter_count(genotype), n=1),
        f"{prefix}.epochs": Figure(value=size.epochs, n=1),
    }


def trainings(path: Path) -> list[dict[str, Any]]:
    """The descriptions of all finished trainings of a run."""
    described = [json.loads(file.read_text()) for file in sorted(path.glob("trained/*/seed-*/training.json"))]
    return [training for training in described if training.get("test_accuracy") is not None]
