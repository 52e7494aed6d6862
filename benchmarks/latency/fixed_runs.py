"""Fifty runs of each op after a warm-up (HW-NAS-Bench; Li et al., 2021) against our campaign.

Both measure nas-bench-201 (C=16, 1 cell per stage, 32 x 32) on this machine in turn. Both are
judged on the same held-out networks, which our rounds measure; that time counts for neither.

fixed runs: each op of the space and of the fixed part is a network of its own. Its price is the
            mean of 50 runs in ms. The prediction of a network is the sum of the prices:
            `mape_percent`. For `fitted_mape_percent`, base and scale of that sum are fitted by
            least squares on the relative errors of our calibration networks; their time is not
            charged.
ours:       the plan's op keys and calibration networks with the preset `quick`, with loading and
            the count of kernels. Predictions by kernel prices: `ours_mape_percent`; by op prices:
            `ours_ops_mape_percent`.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean

import numpy as np

from benchmarks import Progress
from benchmarks.latency.in_process import build_models, measure_tasks
from benchmarks.report import Figure
from lut_server.calibration.table_builder import build_table, canary_nominal_ms
from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.sessions import load_graph, local_runtime
from profiler_agent.timing.stopping import PRESETS
from shared import __version__
from shared.graphs import build_graph
from shared.measurements.graph_spec import ChainGraph, ParallelGraph, parse_graph_spec
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import Plan, make_plan
from shared.spaces import Genotype, Space, make_space
from shared.spaces.op_key import OpKey
from shared.tables.table import LatencyTable

WARM_UP_S = 3.0
RUNS = 50
CALIBRATION, HELD_OUT = 20, 40
PRESET = PRESETS["quick"]
"""Of our way. Held-out networks are measured with the preset `standard`."""


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `profiling.fixed_runs.*`; takes two minutes."""
    space = make_space("nas-bench-201", resolution=32, channels=16, depth=1)
    plan = make_plan(space, CALIBRATION, HELD_OUT)
    models = build_models(plan.tasks)
    start_s = time.monotonic()
    fitted = measure_tasks([task for task in plan.tasks if task.role != "held_out"], models, preset=PRESET)
    counts = {task.graph: count_graph(task.graph, models) for task in plan.tasks if task.role == "calibration"}
    counts |= {graph: count_graph(graph, models) for task in plan.tasks if task.minus for graph in task.graphs}
    ours_s = time.monotonic() - start_s
    progress(f"ours: {ours_s:.1f} s")
    held_out = measure_tasks([task for task in plan.tasks if task.role == "held_out"], models, seed=1)
    counts |= {measurement.graph: count_graph(measurement.graph, models) for measurement in held_out}
    keys = (*space.op_keys(), *dict.fromkeys(space.fixed_ops()))
    start_s = time.monotonic()
    prices_ms = {key: fixed_runs_ms(key) for key in keys}
    theirs_s = time.monotonic() - start_s
    progress(f"fixed runs: {theirs_s:.1f} s")
    table = make_table(space, plan, [*fitted, *held_out], counts)
    return compare(table, space, prices_ms, theirs_s, ours_s)


def fixed_runs_ms(key: OpKey, warm_up_s: float = WARM_UP_S, runs: int = RUNS) -> float:
    """Mean of `runs` runs of the op as a network of its own, after `warm_up_s` of warm-up."""
    spec = str(ChainGraph(1, key) if key.keeps_shape else ParallelGraph(1, key))
    graph = load_graph(spec, build_graph(parse_graph_spec(spec)), local_runtime())
    end_s = time.monotonic() + warm_up_s
    while time.monotonic() < end_s:
        graph.run()
    values_ms = []
    for _ in range(runs):
        start_ns = time.perf_counter_ns()
        graph.run()
        values_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return fmean(values_ms)


def count_graph(spec: str, models: Mapping[str, bytes]) -> Mapping[str, int]:
    """Kernels that the runtime executes for a graph."""
    return count_kernels(spec, models[spec], local_runtime())


def make_table(
    space: Space, plan: Plan, measurements: Sequence[Measurement], counts: Mapping[str, Mapping[str, int]]
) -> LatencyTable:
    """The table that a server makes of these measurements."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run_ = Run("run", "here", local_runtime(), str(space), plan.id, plan.canary, __version__, now, {})
    return build_table(run_, plan, measurements, canary_nominal_ms(measurements), counts)


def compare(
    table: LatencyTable, space: Space, prices_ms: Mapping[OpKey, float], theirs_s: float, ours_s: float
) -> dict[str, Figure]:
    """Both ways on the same held-out networks."""
    networks = {
        role: [
            (space.parse(network.genotype), network.measured_ms) for network in table.networks if network.role == role
        ]
        for role in ("calibration", "held_out")
    }
    sums = {role: [add_up(space, genotype, prices_ms) for genotype, _ in ones] for role, ones in networks.items()}
    measured = {role: [ms for _, ms in ones] for role, ones in networks.items()}
    base_ms, scale = fit_line(sums["calibration"], measured["calibration"])
    on_a_line = [base_ms + scale * total for total in sums["held_out"]]
    n = len(measured["held_out"])
    by_kernels, by_ops = (None if prices is None else prices.held_out for prices in (table.kernels, table))
    assert by_kernels is not None
    assert by_ops is not None
    figures = {
        "time_ratio": Figure(value=theirs_s / ours_s, bar=">= 3", n=1),
        "seconds": Figure(value=theirs_s, unit="s", n=1),
        "ours_seconds": Figure(value=ours_s, unit="s", n=1),
        "mape_percent": Figure(value=mape_percent(sums["held_out"], measured["held_out"]), unit="%", n=n),
        "fitted_mape_percent": Figure(value=mape_percent(on_a_line, measured["held_out"]), unit="%", n=n),
        "ours_mape_percent": Figure(value=by_kernels.mape_percent, unit="%", n=n),
        "ours_ops_mape_percent": Figure(value=by_ops.mape_percent, unit="%", n=n),
    }
    return {f"profiling.fixed_runs.{name}": figure for name, figure in figures.items()}


def add_up(space: Space, genotype: Genotype, prices_ms: Mapping[OpKey, float]) -> float:
    """Sum of the prices of a network's ops, with the fixed part."""
    counts = space.op_counts(genotype) + Counter(space.fixed_ops())
    return sum(prices_ms[key] * times for key, times in counts.items())


def fit_line(sums: Sequence[float], measured: Sequence[float]) -> tuple[float, float]:
    """(base, scale) of least squares on relative errors."""
    target = np.array(measured)
    design = np.stack([np.ones(len(sums)), np.array(sums)], axis=1) / target[:, None]
    base, scale = np.linalg.lstsq(design, np.ones(len(sums)), rcond=None)[0]
    return float(base), float(scale)


def mape_percent(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """Mean absolute error as a share of the measured time."""
    return 100 * fmean(abs(prediction - time) / time for prediction, time in zip(predicted, measured, strict=True))
