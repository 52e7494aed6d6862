"""The truth about NAS-Bench-Macro, which judges families. No search may import this module.

True are the test accuracies on CIFAR-10 after 50 epochs, in three trainings of each of the 6,561
networks (Su et al., 2021). Nobody published latencies.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import DataMissing
from shared.errors import CorruptFile, InvalidValue
from shared.spaces import Genotype, Space, make_space

Floats = npt.NDArray[np.float64]

SPACE = make_space("nas-bench-macro")
FILE = "accuracy_50_epochs.csv"
TRAININGS = 3
COLUMNS = ("architecture", *(f"test_accuracy_{number}" for number in range(1, TRAININGS + 1)))


@dataclass(frozen=True, eq=False)
class Truth:
    """The trainings of every network.

    Attributes:
        place: index of a network in the array.
        trainings: test accuracy, percent, (trainings, networks).
    """

    place: Mapping[Genotype, int]
    trainings: Floats

    def of(self, genotypes: Sequence[Genotype]) -> Floats:
        """Accuracies in each training, (trainings, genotypes).

        Raises:
            KeyError: not a network of the space.
        """
        return self.trainings[:, [self.place[genotype] for genotype in genotypes]]


def load_truth(folder: Path, space: Space = SPACE) -> Truth:
    """Read `accuracy_50_epochs.csv`.

    Raises:
        DataMissing: it is not there.
        CorruptFile: it does not hold accuracies of exactly the space's networks; the message names
            the line.
    """
    path = folder / FILE
    if not path.is_file():
        raise DataMissing(f"{path} is not there: LUTNAS_DATA names the folder with the published accuracies")
    place: dict[Genotype, int] = {}
    rows = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        try:
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise CorruptFile(f"{path} has no column {', '.join(missing)}: copy it anew")
            for row in reader:
                rows.append([_read_percent(row[name]) for name in COLUMNS[1:]])
                if place.setdefault(space.parse(row["architecture"]), len(place)) != len(rows) - 1:
                    raise CorruptFile(f"{path}, line {reader.line_num}: {row['architecture']} is there twice")
        except (InvalidValue, csv.Error) as error:
            raise CorruptFile(f"{path}, line {reader.line_num}: {error}; copy the file anew") from error
    if len(place) != space.genotype_count:
        raise CorruptFile(f"{path} has {len(place)} of the {space.genotype_count} networks: copy it anew")
    return Truth(place, np.array(rows).T)


def _read_percent(text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise InvalidValue("accuracy", f"'{text}' is not a percentage")
    return value
