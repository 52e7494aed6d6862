"""What strategies are compared on: a space whose networks were all trained, and its devices.

Searches get images and tables alone. Accuracies and latencies of all networks judge what they hand
over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.judging import nas_bench_macro_truth
from benchmarks.judging.shares import Floats, Plane
from benchmarks.search.cifar10_jpeg import write_cifar10
from benchmarks.search.nas_bench_201_search import DATA, LOOK, SPACE, fit_tables, latency_file
from benchmarks.search.nas_bench_201_truth import Truth, load_truth
from benchmarks.strategies.published import NAS_BENCH_201, Published
from search.decoding.decoding import enumerate_space
from search.latency.latency_model import LatencyModel
from search.ranking.scoring import ScoringSettings
from shared.spaces import Space, make_space
from shared.tables.table import LatencyTable

HERE = "here"
"""The device that is this machine (`benchmarks.judging.this_machine`)."""
BUDGET_SHARES = (0.25, 0.5, 0.75)
"""Quantiles of the latencies of the networks, which are the budgets."""
RUNS = Path(__file__).parents[2] / "runs" / "strategies"


@dataclass(frozen=True, eq=False)
class Landscape:
    """All judged networks of a space on a device.

    Attributes:
        latency_ms: (networks,).
        accuracy: (networks,), true, percent.
        budgets_ms: of the searches, rising.
    """

    latency_ms: Floats
    accuracy: Floats
    budgets_ms: tuple[float, ...]

    @cached_property
    def front(self) -> list[tuple[float, float]]:
        """(ms, accuracy) of the networks that are more accurate than all faster networks."""
        order = np.lexsort((-self.accuracy, self.latency_ms))
        best = np.maximum.accumulate(self.accuracy[order])
        first = np.flatnonzero(np.diff(best, prepend=0.0) > 0)
        return [(float(self.latency_ms[order[i]]), float(best[i])) for i in first]

    def best_within(self, budget_ms: float) -> tuple[float, float]:
        """(ms, accuracy) of the most accurate network."""
        return max((point for point in self.front if point[0] <= budget_ms), key=lambda point: point[1])

    def relative_hypervolume(self, networks: Iterable[tuple[float, float]], worst: float | None = None) -> float:
        """Hypervolume of a few networks over that of all.

        Args:
            networks: (ms, accuracy) of each.
            worst: accuracy where the axis begins; None: that of the worst network. The other axis
                runs over all latencies.

        Raises:
            InvalidValue: an axis has no length, as in a space with a single network.
        """
        points, count = np.array(list(networks)).reshape(-1, 2), len(self.latency_ms)
        latency_ms, accuracy = np.append(self.latency_ms, points[:, 0]), np.append(self.accuracy, points[:, 1])
        places = np.arange(len(latency_ms))
        plane = Plane(latency_ms, 100 - accuracy, places < count, None if worst is None else 100 - worst)
        return plane.relative_hypervolume(places[count:])


def quartiles(latency_ms: Floats) -> tuple[float, ...]:
    """The budgets of networks with these latencies."""
    return tuple(np.quantile(latency_ms, BUDGET_SHARES).tolist())


@dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """What a search may know.

    Attributes:
        name: in figures and folders.
        space: of supernets and tables.
        dataset: of the images.
        make_data_dir: their folder, made if missing; None if the data set needs none.
        look: of every score.
    """

    name: str
    space: Space
    dataset: str
    make_data_dir: Callable[[], Path | None]
    look: ScoringSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class Ground(Known):
    """A truth, and what a search may know of it. A look is as deep as the networks of the truth.

    Attributes:
        whole_space: of the networks of the truth, whose cells may be repeated more often.
        truth: by the space's strings. `latency_ms` lacks `HERE`.
        make_tables: the tables of the truth's devices for a seed, fitted to a few of its latencies.
        published: what papers say of the same truth; may be nothing.
    """

    whole_space: Space
    truth: Truth
    make_tables: Callable[[int], Sequence[LatencyTable]]
    published: Mapping[str, Published]

    @property
    def judged_by(self) -> str:
        """The data set of the truth that the searches saw the images of: the first."""
        return next(iter(self.truth.error))

    def landscape(self, device: str, table: LatencyTable | None) -> Landscape:
        """All networks by their true latencies; with a table, by the latencies that it predicts.

        Budgets are the quartiles.
        """
        accuracy = 100 - self.truth.error[self.judged_by]
        if table is None:
            learns = self.truth.learns(self.judged_by)
            latency_ms, accuracy = self.truth.latency_ms[device][learns], accuracy[learns]
        else:
            listed = enumerate_space(self.whole_space)
            latency_ms = LatencyModel(table).mean_and_sd_ms(listed.forms)[0][listed.form]
            accuracy = accuracy[self.truth.places(list(map(self.space.format, listed.forms)))][listed.form]
        return Landscape(latency_ms, accuracy, quartiles(latency_ms))

    def accuracies(self, genotype: str) -> dict[str, float]:
        """True accuracy of a network by data set, percent."""
        place = self.truth.place[genotype]
        return {dataset: float(100 - error[place]) for dataset, error in self.truth.error.items()}


def nas_bench_201() -> Ground:
    """NAS-Bench-201, with one cell per stage in the supernet, as its cells are alike.

    Raises:
        DataMissing: the published accuracies or latencies are not on this machine.
        CorruptFile: a file of the truth is damaged.
    """
    latency_file()

    return Ground(
        name="nb201",
        space=SPACE,
        dataset="cifar-10",
        make_data_dir=_make_cifar_10,
        look=LOOK,
        whole_space=make_space("nas-bench-201", resolution=SPACE.resolution, channels=SPACE.channels, depth=5),
        truth=load_truth(DATA / "nas_bench_201"),
        make_tables=lambda seed: fit_tables(latency_file(), seed),
        published=NAS_BENCH_201,
    )


def nas_bench_macro() -> Ground:
    """NAS-Bench-Macro. Nobody published its latencies, so it has no device but `HERE`.

    Raises:
        DataMissing: the published accuracies are not on this machine.
        CorruptFile: their file is damaged.
    """
    space = nas_bench_macro_truth.SPACE
    trained = nas_bench_macro_truth.load_truth(DATA / "nas_bench_macro")
    place = {space.format(genotype): place for genotype, place in trained.place.items()}
    truth = Truth(place, {"cifar10": 100 - trained.trainings.mean(axis=0)}, {})
    return Ground(
        name="nbmacro",
        space=space,
        dataset="cifar-10",
        make_data_dir=_make_cifar_10,
        look=ScoringSettings(),
        whole_space=space,
        truth=truth,
        make_tables=lambda seed: (),
        published={},
    )


def _make_cifar_10() -> Path:
    return write_cifar10(DATA / "cifar10_jpeg", RUNS / "cifar10_jpeg")


GROUNDS: Mapping[str, Callable[[], Ground]] = {"nb201": nas_bench_201, "nbmacro": nas_bench_macro}
