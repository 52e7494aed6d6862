"""The truth about NAS-Bench-201, which judges families. No search may import this module.

True are the test accuracies after 200 epochs (NATS-Bench) and the measured latencies (HELP,
HW-NAS-Bench) of all 15,625 architectures. The relative hypervolume judges a family. Error and
latency are scaled to [0, 1] over the architectures with an error below 90 %, and the reference
point is (1, 1). The area that the family dominates is divided by that of all architectures.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import DataMissing
from benchmarks.judging.shares import Plane
from shared.errors import CorruptFile

Floats = npt.NDArray[np.float64]

DATASETS = ("cifar10", "cifar100", "imagenet16_120")
CHANCE_ERROR = 90.0
"""Architectures with this error (percent) or more are left out: most are not connected."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The measurements of every architecture.

    Attributes:
        place: index of an architecture's string in the arrays.
        error: test error after 200 epochs by data set, percent, each (architectures,).
        latency_ms: by device, each (architectures,).
    """

    place: Mapping[str, int]
    error: Mapping[str, Floats]
    latency_ms: Mapping[str, Floats]

    @property
    def devices(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self.latency_ms)

    def places(self, genotypes: Sequence[str]) -> npt.NDArray[np.intp]:
        """Indices of architectures.

        Raises:
            KeyError: not an architecture of NAS-Bench-201.
        """
        return np.array([self.place[genotype] for genotype in genotypes], dtype=np.intp)

    def learns(self, dataset: str) -> npt.NDArray[np.bool_]:
        """Whether each architecture is better than chance."""
        return np.asarray(self.error[dataset] < CHANCE_ERROR)


@dataclass(frozen=True)
class Rung:
    """A budget, and a network's distance from the best possible network within it.

    Attributes:
        gap: best true accuracy of any architecture within the budget minus the network's,
            percentage points.
        met: whether the network's true latency keeps the budget.
    """

    budget_ms: float
    gap: float
    met: bool


def load_truth(folder: Path) -> Truth:
    """Read `accuracy_200_epochs.csv` and `latency_ms.csv`.

    Raises:
        DataMissing: a file is not there.
        CorruptFile: a file is damaged, or the two do not list the same architectures.
    """
    try:
        accuracies, latencies = (_columns(folder / name) for name in ("accuracy_200_epochs.csv", "latency_ms.csv"))
        names = accuracies.pop("architecture")
        if latencies.pop("architecture") != names:
            raise ValueError("accuracies and latencies are not of the same architectures")
        error = {name: 100 - np.array(accuracies[f"{name}_test_accuracy"], dtype=np.float64) for name in DATASETS}
        latency_ms = {name: np.array(values, dtype=np.float64) for name, values in latencies.items()}
    except OSError as problem:
        raise DataMissing(f"{problem.filename} cannot be read: LUTNAS_DATA names the folder of the truth") from problem
    except (KeyError, ValueError, csv.Error) as problem:
        raise CorruptFile(f"{folder} is damaged: {problem}") from problem
    return Truth({name: index for index, name in enumerate(names)}, error, latency_ms)


def relative_hypervolume(
    truth: Truth, device: str, dataset: str, genotypes: Sequence[str], worst_error: float | None = None
) -> float:
    """Hypervolume of a family over that of all architectures, 0 to 1.

    Args:
        truth, device, dataset: to judge by.
        genotypes: of the family.
        worst_error: end of the error axis, percent; None: the largest error below chance.
    """
    plane = Plane(truth.latency_ms[device], truth.error[dataset], truth.learns(dataset), worst_error)
    return plane.relative_hypervolume(truth.places(genotypes))


def budgets_ms(truth: Truth, device: str, count: int) -> list[float]:
    """Budgets at equally spaced quantiles, 5 to 95 %, of the architectures that learn CIFAR-10."""
    latency_ms = truth.latency_ms[device][truth.learns("cifar10")]
    return [float(value) for value in np.quantile(latency_ms, np.linspace(0.05, 0.95, count))]


def judge(truth: Truth, device: str, budget_ms: float, genotype: str) -> Rung:
    """Judge a network for a budget by the truth about CIFAR-10."""
    latency_ms, error = truth.latency_ms[device], truth.error["cifar10"]
    place = truth.place[genotype]
    possible = error[latency_ms <= budget_ms].min()
    return Rung(budget_ms, float(error[place] - possible), bool(latency_ms[place] <= budget_ms))


def has_whole_milliseconds(truth: Truth, device: str) -> bool:
    """Whether the device's latencies are rounded to whole milliseconds."""
    return bool((truth.latency_ms[device] % 1 == 0).all())


def _columns(path: Path) -> dict[str, list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
