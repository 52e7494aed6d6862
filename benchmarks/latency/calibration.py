"""The worth of active selection, and the errors of simpler tables, from the same measurements.

A campaign measures a pool of networks of a space and held-out networks. All figures are fits to
these measurements:

active:     kernel prices from n networks of the pool. The first ten are drawn; the rest are chosen
            by predictive variance, five at a time, as the server chooses; against n drawn at
            random. The held-out networks are the same, with several seeds.
baselines:  sums of costs without a fit. The base is the time of the fastest calibration network
            beyond its ops. The costs are isolated timings (`isolated`), marginal costs from 20 %
            quantiles by the clock without the canary (`marginal_without_canary`), and marginal
            costs from plain medians of all repeats by the clock (`plain_medians`).
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean, median, stdev

from benchmarks.report import Figure
from benchmarks.stack import Stack, running_stack, this_device
from lut_server.calibration.drift_correction import levels
from lut_server.calibration.kernel_calibration import fit_kernel_prices
from lut_server.calibration.kernel_model import MeasuredGraph
from lut_server.calibration.table_builder import canary_nominal_ms, measured_graphs
from lut_server.calibration.table_error import MeasuredNetwork, baseline_errors, held_out_error
from lut_server.runs.active_selection import outlook_by_kernels
from lut_server.store.sql import open_store
from shared.measurements.measurement import Measurement
from shared.spaces import parse_space
from shared.spaces.op_key import OpKey, parse_op_key
from shared.tables.held_out_error import HeldOutError
from shared.tables.kernel_prices import KernelPrices
from shared.tables.table import Prediction

SIZES = (15, 20, 30, 40, 60)
FIRST, BATCH, SEEDS = 10, 5, 4
POOL, HELD_OUT = 150, 60
POOLS = (
    ("nb201_n5", "nas-bench-201", "--resolution 32 --channels 16 --cells-per-stage 5"),
    ("darts", "darts", "--resolution 32 --channels 16 --depth 8"),
)


@dataclass(frozen=True)
class Recorded:
    """The measurements of a run, in ms of its canary, with the kernels of its graphs."""

    space: str
    measurements: tuple[Measurement, ...]
    counts: Mapping[str, Mapping[str, int]]
    nominal_ms: float

    def of_role(self, role: str) -> list[Measurement]:
        """Measurements of a role."""
        return [measurement for measurement in self.measurements if measurement.role == role]


def run(progress: Callable[[str], None]) -> dict[str, Figure]:
    """Figures `profiling.active.*`: a campaign and its fits for each space; ten minutes."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        return _run(stack, progress)


def _run(stack: Stack, progress: Callable[[str], None]) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name, space, sizes in POOLS:
        progress(f"{name}: {POOL} networks to choose from, {HELD_OUT} held out")
        counts = ("--calibration", str(POOL), "--held-out", str(HELD_OUT), "--bound-percent", "0")
        stack.profile(this_device(), "--space", space, *sizes.split(), *counts)
        figures |= replay(read_newest(stack, space), name, progress)
    return figures


def read_newest(stack: Stack, space: str) -> Recorded:
    """The newest run of a space, from the stack's database: chains' kernels have no route."""
    store = open_store(f"sqlite:///{(stack.folder / 'lutnas.db').resolve()}")
    try:
        run = [run.run for run in store.runs.list() if run.run.space.startswith(f"{space}/")][-1]
        measurements = store.runs.measurements(run.id)
        graphs = [
            graph
            for measurement in measurements
            for graph in (measurement.graph, measurement.minus)
            if graph is not None
        ]
        counts = store.kernels.of_graphs(run.device, str(run.runtime), list(dict.fromkeys(graphs)))
        return Recorded(run.space, measurements, counts, canary_nominal_ms(measurements))
    finally:
        store.close()


def replay(
    recorded: Recorded, name: str, progress: Callable[[str], None], seeds: int = SEEDS, sizes: Sequence[int] = SIZES
) -> dict[str, Figure]:
    """Figures `profiling.active.NAME.*`: errors with n networks, chosen and drawn."""
    level = levels([*recorded.of_role("calibration"), *recorded.of_role("held_out")])
    chains = measured_graphs(recorded.of_role("marginal"), recorded.nominal_ms, recorded.counts, level)
    pool = measured_graphs(recorded.of_role("calibration"), recorded.nominal_ms, recorded.counts, level)
    held_out = [
        (recorded.counts[measurement.graph], recorded.nominal_ms * level[measurement.id])
        for measurement in recorded.of_role("held_out")
        if measurement.graph in recorded.counts
    ]
    figures: dict[str, Figure] = {}
    for way, more in (("chosen", _choose), ("random", _draw)):
        errors: dict[int, list[HeldOutError]] = {}
        for seed in range(seeds):
            order = random.Random(seed).sample(range(len(pool)), len(pool))
            have = order[:FIRST]
            for n in sizes:
                while len(have) < n:
                    have = more(chains, pool, have, order, min(BATCH, n - len(have)))
                errors.setdefault(n, []).append(_score(_fit(chains, pool, have), held_out))
            progress(f"{name}: {way}, seed {seed + 1} of {seeds}")
        for n, of_seeds in errors.items():
            figures |= _figures(f"profiling.active.{name}.{way}_{n}", of_seeds)
    return figures


def baseline_figures(recorded: Recorded, name: str) -> dict[str, Figure]:
    """Figures `profiling.NAME.isolated.*`, `.marginal_without_canary.*` and `.plain_medians.*`."""
    space = parse_space(recorded.space)
    level = levels([*recorded.of_role("calibration"), *recorded.of_role("held_out")])
    networks = [
        MeasuredNetwork(space.parse(measurement.subject), role, recorded.nominal_ms * level[measurement.id])
        for role in ("calibration", "held_out")
        for measurement in recorded.of_role(role)
    ]
    costs: dict[str, dict[OpKey, float]] = {
        "isolated": _costs(
            recorded.of_role("isolated"), lambda measurement: recorded.nominal_ms * measurement.estimate().ratio
        ),
        "marginal_without_canary": _costs(recorded.of_role("marginal"), Measurement.raw_ms),
        "plain_medians": _costs(recorded.of_role("marginal"), plain_median_ms),
    }
    figures: dict[str, Figure] = {}
    for error in baseline_errors(space, costs, networks):
        prefix, n = f"profiling.{name}.{error.costs}", error.networks
        figures[f"{prefix}.mape_percent"] = Figure(value=error.mape_percent, unit="%", n=n)
        figures[f"{prefix}.within_10_percent"] = Figure(value=error.within_10_percent, unit="%", n=n)
        figures[f"{prefix}.kendall_tau"] = Figure(value=error.kendall_tau, n=n)
    return figures


def plain_median_ms(measurement: Measurement) -> float:
    """The op's time by the clock, from the medians of all repeats."""
    graph_ms = median(chain.from_iterable(each.graph_ms for each in measurement.rounds))
    minus_ms = median(chain.from_iterable(each.minus_ms for each in measurement.rounds)) if measurement.minus else 0.0
    return (graph_ms - minus_ms) / measurement.divisor


def _costs(measurements: Sequence[Measurement], cost_ms: Callable[[Measurement], float]) -> dict[OpKey, float]:
    return {parse_op_key(measurement.subject): cost_ms(measurement) for measurement in measurements}


def _fit(chains: Sequence[MeasuredGraph], pool: Sequence[MeasuredGraph], have: Sequence[int]) -> KernelPrices:
    prices = fit_kernel_prices([*chains, *(pool[i] for i in have)])
    assert prices is not None, "ten networks are enough for kernel prices"
    return prices


def _choose(
    chains: Sequence[MeasuredGraph], pool: Sequence[MeasuredGraph], have: list[int], order: list[int], batch: int
) -> list[int]:
    rest = [i for i in order if i not in set(have)]
    outlook = outlook_by_kernels(_fit(chains, pool, have), [pool[i].counts for i in rest])
    return have + [rest[i] for i in outlook.most_telling(batch)]


def _draw(
    chains: Sequence[MeasuredGraph], pool: Sequence[MeasuredGraph], have: list[int], order: list[int], batch: int
) -> list[int]:
    return order[: len(have) + batch]


def _score(prices: KernelPrices, held_out: Sequence[tuple[Mapping[str, int], float]]) -> HeldOutError:
    predictions = [Prediction(*prices.predict(counts, guess=True)) for counts, _ in held_out]
    return held_out_error(predictions, [ms for _, ms in held_out])


def _figures(prefix: str, errors: Sequence[HeldOutError]) -> dict[str, Figure]:
    def figure(name: str, unit: str | None) -> Figure:
        values = [getattr(error, name) for error in errors]
        return Figure(value=fmean(values), unit=unit, n=len(values), spread=stdev(values) if len(values) > 1 else None)

    names = {"mape_percent": "%", "bound_coverage": "%", "bound_half_width_percent": "%", "kendall_tau": None}
    return {f"{prefix}.{name}": figure(name, unit) for name, unit in names.items()}
