"""Chooses, for a budget, among the picks of several searches of one device on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from search.family.family import Picker
from search.process.progress import Progress
from search.process.threads_and_memory import single_threaded_workers
from search.retraining.finetune import TuningSettings, updates
from search.retraining.pilot import hold_out, pilot
from search.runs.run_directory import DeviceRun
from shared.errors import BudgetTooSmall, InvalidValue
from shared.spaces import Genotype

NETWORKS = 3
_Place = tuple[int, Genotype]
"""Which run, and which of its networks."""


@dataclass(frozen=True)
class Contender:
    """A run's network for a budget. `accuracy`: percent, of images held out; None if there was no other."""

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
    runs: Sequence[DeviceRun],
    pickers: Sequence[Picker],
    budgets_ms: Sequence[float],
    epochs: float,
    progress: Progress,
    networks: int = NETWORKS,
) -> list[Contender]:
    """For each budget the most accurate contender of each run, the best of all first.

    What was picked for a smaller budget contends for a larger one, too: a rank may overrate what a
    larger network adds.

    Args:
        budgets_ms: ascending.
        networks: best-ranked ones of a run for each budget.

    Raises:
        BudgetTooSmall: no network of any run meets a budget.
        InvalidValue: too few images are left to judge.
    """
    known: dict[_Place, Contender] = {}
    fields = []
    for budget_ms in budgets_ms:
        known |= _picked(runs, pickers, budget_ms, networks, progress)
        fields.append({place: each for place, each in known.items() if each.upper_ms <= budget_ms})
    places = [place for place in known if any(place in field and len(field) > 1 for field in fields)]
    judged = dict(zip(places, _judge(runs, places, epochs, progress), strict=True)) if places else {}
    chosen: list[Contender] = []
    for budget_ms, field in zip(budgets_ms, fields, strict=True):
        best: dict[str, Contender] = {}
        for place, each in sorted(field.items(), key=lambda item: (-judged.get(item[0], 0.0), item[1].upper_ms)):
            best.setdefault(each.run, replace(each, target_ms=budget_ms, accuracy=judged.get(place)))
        first, *others = best.values()
        chosen += [replace(first, is_best=True), *others]
    return chosen


def _picked(
    runs: Sequence[DeviceRun], pickers: Sequence[Picker], budget_ms: float, networks: int, progress: Progress
) -> dict[_Place, Contender]:
    """The best-ranked networks of each run that has any within a budget."""
    found: dict[_Place, Contender] = {}
    smallest: list[BudgetTooSmall] = []
    for place, (run, picker) in enumerate(zip(runs, pickers, strict=True)):
        try:
            pick = picker.pick(budget_ms, progress)
        except BudgetTooSmall as error:
            smallest.append(error)
            continue
        for member in (pick.best, *pick.runners_up)[:networks]:
            network = run.space.format(member.genotype)
            priced = member.predicted_ms, member.upper_ms
            found[place, member.genotype] = Contender(budget_ms, str(run.path), network, *priced)
    if not found:
        raise min(smallest, key=lambda error: error.smallest_ms)
    return found


def _judge(runs: Sequence[DeviceRun], places: Sequence[_Place], epochs: float, progress: Progress) -> list[float]:
    first = runs[0]
    images = first.load_images()
    settings = TuningSettings(epochs, seed=first.config.seed, precision=first.config.precision)
    held_out = hold_out(images, [run.config.seed for run in runs])
    judged: dict[_Place, float] = {}
    with (
        progress.phase("training picks", len(places) * updates(len(held_out.tuning), settings)) as phase,
        single_threaded_workers(first.config.threads) as pool,
    ):
        for place, run in enumerate(runs):
            genotypes, supernet = [genotype for index, genotype in places if index == place], run.supernet()
            networks = [supernet.derive(genotype) for genotype in genotypes]
            accuracies = pilot(networks, images, held_out, settings, pool, run.loss, phase.advance)
            judged |= zip(((place, genotype) for genotype in genotypes), accuracies, strict=True)
    return [judged[place] for place in places]
