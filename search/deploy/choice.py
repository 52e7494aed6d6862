"""Chooses, for a budget, among the picks of several searches of one device on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from search.family.family import Picker
from search.process.progress import Progress
from search.process.threads_and_memory import single_threaded_workers
from search.retraining.finetune import TuningSettings, updates
from search.retraining.pilot import hold_out, pilot
from search.runs.run_directory import DeviceRun
from shared.errors import BudgetTooSmall, InvalidValue
from shared.spaces import Genotype


@dataclass(frozen=True)
class Contender:
    """A run's pick for a budget. `accuracy`: percent, of images held out; None if there was no other pick."""

    target_ms: float
    run: str
    network: str
    predicted_ms: float
    upper_ms: float
    accuracy: float | None = None
    is_best: bool = False


def require_alike(runs: Sequence[DeviceRun]) -> None:
    """Raise InvalidValue unless all runs are of one device, and of the same images at the same size."""
    first = runs[0]
    for other in runs[1:]:
        if other.table.device != first.table.device:
            problem = (
                f"{other.path} is of {other.table.device}, {first.path} of {first.table.device}: name one --device"
            )
            raise InvalidValue("run", problem)
        seen = [(run.config.data_fingerprint, run.space.input_shape, run.space.classes) for run in (first, other)]
        if seen[0] != seen[1]:
            raise InvalidValue(
                "run", f"{other.path} was searched on other images than {first.path}, or at another size"
            )


def choose(
    runs: Sequence[DeviceRun], pickers: Sequence[Picker], budgets_ms: Sequence[float], epochs: float, progress: Progress
) -> list[Contender]:
    """The contenders for each budget, the best first.

    Raises:
        BudgetTooSmall: no network of any run meets a budget.
        InvalidValue: too few images are left to judge.
    """
    picked = [_contenders(runs, pickers, budget_ms, progress) for budget_ms in budgets_ms]
    genotypes = {
        (place, contender.network): runs[place].space.parse(contender.network)
        for rivals in picked
        if len(rivals) > 1
        for place, contender in rivals
    }
    accuracies = dict(zip(genotypes, _judge(runs, genotypes, epochs, progress), strict=True)) if genotypes else {}
    chosen = []
    for rivals in picked:
        judged = [replace(each, accuracy=accuracies.get((place, each.network))) for place, each in rivals]
        judged.sort(key=lambda each: (-(each.accuracy or 0.0), each.upper_ms))
        chosen += [replace(judged[0], is_best=True), *judged[1:]]
    return chosen


def _contenders(
    runs: Sequence[DeviceRun], pickers: Sequence[Picker], budget_ms: float, progress: Progress
) -> list[tuple[int, Contender]]:
    """The pick of each run that has one, with the run's place."""
    found: list[tuple[int, Contender]] = []
    smallest: list[BudgetTooSmall] = []
    for place, (run, picker) in enumerate(zip(runs, pickers, strict=True)):
        try:
            best = picker.pick(budget_ms, progress).best
        except BudgetTooSmall as error:
            smallest.append(error)
            continue
        network = run.space.format(best.genotype)
        found.append((place, Contender(budget_ms, str(run.path), network, best.predicted_ms, best.upper_ms)))
    if not found:
        raise min(smallest, key=lambda error: error.smallest_ms)
    return found


def _judge(
    runs: Sequence[DeviceRun], genotypes: dict[tuple[int, str], Genotype], epochs: float, progress: Progress
) -> list[float]:
    first = runs[0]
    images = first.load_images()
    settings = TuningSettings(epochs, seed=first.config.seed, precision=first.config.precision)
    held_out = hold_out(images, [run.config.seed for run in runs])
    supernets = [run.supernet() for run in runs]
    networks: list[nn.Module] = [supernets[place].derive(genotype) for (place, _), genotype in genotypes.items()]
    steps = updates(len(held_out.tuning), settings)
    with (
        progress.phase("training picks", len(networks) * steps) as phase,
        single_threaded_workers(first.config.threads) as pool,
    ):
        return pilot(networks, images, held_out, settings, pool, first.loss, phase.advance)
