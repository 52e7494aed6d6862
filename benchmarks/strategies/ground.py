"""What strategies are compared on: a space whose networks were all trained, and its devices.

Searches get images and tables alone. Accuracies and latencies of all networks judge what they hand
over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.judging import nas_bench_macro_truth
from benchmarks.search.cifar10_jpeg import write_cifar10
from benchmarks.search.nas_bench_201_search import DATA, SPACE, fit_tables, latency_file
from benchmarks.search.nas_bench_201_truth import Truth, load_truth
from benchmarks.strategies.published import NAS_BENCH_201, Published
from search.data import ImageSet, load_images
from search.decoding.decoding import enumerate_space
from search.latency.latency_model import LatencyModel
from shared.spaces import Space, make_space
from shared.tables.table import LatencyTable

HERE = "here"
"""The device that is this machine (`benchmarks.judging.this_machine`)."""
BUDGET_SHARES = (0.25, 0.5, 0.75)
"""Quantiles of the latencies of the networks, which are the budgets."""
RUNS = Path(__file__).parents[2] / "runs" / "strategies"


@dataclass(frozen=True, eq=False)
class Ground:
    """A truth, and what a search may know of it.

    Attributes:
        name: in figures and folders.
        space: of supernets and tables.
        whole_space: of the networks of the truth, whose cells may be repeated more often.
        truth: by the space's strings. `latency_ms` lacks `HERE`.
        make_tables: the tables of the truth's devices for a seed, fitted to a few of its latencies.
        load: the images.
        published: what papers say of the same truth; may be nothing.
    """

    name: str
    space: Space
    whole_space: Space
    truth: Truth
    make_tables: Callable[[int], Sequence[LatencyTable]]
    load: Callable[[], ImageSet]
    published: Mapping[str, Published]

    def budgets_ms(self, device: str, table: LatencyTable | None) -> tuple[float, ...]:
        """Quartiles of the true latencies; with a table, of the latencies that it predicts."""
        if table is None:
            latency_ms = self.truth.latency_ms[device][self.truth.learns("cifar10")]
        else:
            listed = enumerate_space(self.whole_space)
            latency_ms = LatencyModel(table).mean_and_sd_ms(listed.forms)[0][listed.form]
        return tuple(np.quantile(latency_ms, BUDGET_SHARES).tolist())

    def accuracies(self, genotype: str) -> dict[str, float]:
        """True accuracy of a network by data set, percent."""
        place = self.truth.place[genotype]
        return {dataset: float(100 - error[place]) for dataset, error in self.truth.error.items()}

    def front(self, device: str) -> list[tuple[float, float]]:
        """(ms, accuracy) of the networks that are more accurate than all faster networks."""
        latency_ms, accuracy = self.truth.latency_ms[device], 100 - self.truth.error["cifar10"]
        order = np.lexsort((-accuracy, latency_ms))
        best = np.maximum.accumulate(accuracy[order])
        first = np.flatnonzero(np.diff(best, prepend=0.0) > 0)
        return [(float(latency_ms[order[i]]), float(best[i])) for i in first]


def nas_bench_201() -> Ground:
    """NAS-Bench-201, with one cell per stage in the supernet, as its cells are alike.

    Raises:
        DataMissing: the published accuracies, latencies or images are not on this machine.
        CorruptFile: a file of the truth is damaged.
    """
    latency_file()

    return Ground(
        "nb201",
        SPACE,
        make_space("nas-bench-201", resolution=SPACE.resolution, channels=SPACE.channels, depth=5),
        load_truth(DATA / "nas_bench_201"),
        lambda seed: fit_tables(latency_file(), seed),
        lambda: _load_cifar_10(SPACE),
        NAS_BENCH_201,
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
    return Ground("nbmacro", space, space, truth, lambda seed: (), lambda: _load_cifar_10(space), {})


def _load_cifar_10(space: Space) -> ImageSet:
    folder = write_cifar10(DATA / "cifar10_jpeg", RUNS / "cifar10_jpeg")
    return load_images("cifar-10", space.resolution, space.image_channels, folder)


GROUNDS: Mapping[str, Callable[[], Ground]] = {"nb201": nas_bench_201, "nbmacro": nas_bench_macro}
