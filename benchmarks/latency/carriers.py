"""Two ways to the marginal cost of an op that changes the shape, judged on held-out networks.

parallel: (8 parallel copies, each with its own input - 2 copies) / 6. A profile measures this.
carrier:  (6 carriers with the op - 6 without it) / 6. A carrier is a 1x1 convolution, a second that
          changes the shape as the op does, and a third behind. The op is added to the second.

Both are measured in the same campaign, with the chains of all other ops and with whole networks.
`mape_percent` is the held-out error of base + scale x (sum of marginal costs); base and scale are
fitted on the calibration networks. `table_mape_percent` is that of the op prices of a table with
these marginal costs as prior. `repeat_percent` is the median over the ops of the difference between
two campaigns.
"""

from collections.abc import Sequence
from statistics import median

from benchmarks import Progress
from benchmarks.latency.fixed_runs import fit_line, mape_percent
from benchmarks.latency.in_process import build_models, measure_tasks
from benchmarks.report import Figure
from lut_server.calibration.table_builder import MarginalCost, calibrate, canary_nominal_ms
from lut_server.calibration.table_error import MeasuredNetwork
from profiler_agent.ort.sessions import local_runtime
from profiler_agent.timing.stopping import PRESETS, Preset
from shared import __version__
from shared.graphs.weights import random_weights
from shared.graphs.writer import GraphWriter
from shared.measurements.graph_spec import ParallelGraph
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import Plan, Task, make_plan
from shared.spaces import Space, make_space
from shared.spaces.op_key import OpKey, parse_op_key
from shared.spaces.primitives import PRIMITIVES, parameter_shapes

COPIES = 6
CALIBRATION, HELD_OUT = 30, 30
SPACES = {
    "darts": make_space("darts", resolution=32, channels=16, depth=8),
    "fbnet_128": make_space("fbnet", resolution=128, depth=1),
}
"""`fbnet` with 1 layer per stage has all shape-changing layers, and they weigh more."""


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `profiling.carriers.WAY.SPACE.*`; takes five minutes."""
    figures: dict[str, Figure] = {}
    for name, space in SPACES.items():
        progress(f"carriers: {name}")
        figures |= compare(name, space)
    return figures


def compare(name: str, space: Space, preset: Preset = PRESETS["standard"]) -> dict[str, Figure]:
    """Both ways on a space."""
    plan = make_plan(space, CALIBRATION, HELD_OUT)
    changing = [key for key in space.op_keys() if not key.keeps_shape]
    parallel = [task for task in plan.tasks if task.role == "marginal" and not parse_op_key(task.subject).keeps_shape]
    carriers = [carrier_task(key) for key in changing]
    models = build_models(plan.tasks)
    for key, task in zip(changing, carriers, strict=True):
        models |= {task.graph: build_carrier(key, with_op=True), str(task.minus): build_carrier(key, with_op=False)}
    first = measure_tasks([*plan.tasks, *carriers], models, preset=preset)
    again = measure_tasks([*parallel, *carriers], models, seed=1, preset=preset)
    figures: dict[str, Figure] = {}
    for way, tasks in (("parallel", parallel), ("carrier", carriers)):
        graphs = {task.graph for task in tasks}
        other = {task.graph for task in (*parallel, *carriers)} - graphs
        of_way = [measurement for measurement in first if measurement.graph not in other]
        figures |= {
            f"profiling.carriers.{way}.{name}.{figure}": value for figure, value in errors(space, plan, of_way).items()
        }
        pairs = [
            (
                measurement.estimate().ratio,
                next(two for two in again if two.graph == measurement.graph).estimate().ratio,
            )
            for measurement in first
            if measurement.graph in graphs
        ]
        differences = [100 * 2 * abs(pair - two) / max(abs(pair + two), 1e-9) for pair, two in pairs]
        figures[f"profiling.carriers.{way}.{name}.repeat_percent"] = Figure(
            value=median(differences), unit="%", n=len(differences), spread=f"to {max(differences):.3g}"
        )
    return figures


def carrier_task(key: OpKey) -> Task:
    """References of parallel graphs in place of carriers, which have no references."""
    with_op, without = (str(ParallelGraph(copies, key)) for copies in (COPIES + 1, COPIES))
    return Task(str(key), "marginal", with_op, without, divisor=COPIES)


def build_carrier(key: OpKey, with_op: bool) -> bytes:
    """Parallel carriers, each with an input of its own."""
    around = {
        "before.": OpKey("nor_conv_1x1", key.input, key.input, 1),
        "base.": OpKey("nor_conv_1x1", key.input, key.output, key.stride),
        "behind.": OpKey("nor_conv_1x1", key.output, key.output, 1),
    }
    parts = {**around, "op.": key} if with_op else around
    shapes = {
        f"{index}.{prefix}{name}": shape
        for index in range(COPIES)
        for prefix, part in parts.items()
        for name, shape in parameter_shapes(part).items()
    }
    writer = GraphWriter(random_weights(shapes))
    inputs = tuple(f"input{index}" for index in range(COPIES))
    outputs = []
    for index, name in enumerate(inputs):
        x = PRIMITIVES["nor_conv_1x1"](writer, name, around["before."], f"{index}.before.")
        y = PRIMITIVES["nor_conv_1x1"](writer, x, around["base."], f"{index}.base.")
        if with_op:
            y = writer.sum([y, PRIMITIVES[key.primitive](writer, x, key, f"{index}.op.")])
        outputs.append(PRIMITIVES["nor_conv_1x1"](writer, y, around["behind."], f"{index}.behind."))
    sides = [(1, shape.channels, shape.height, shape.width) for shape in (key.input, key.output)]
    return writer.model(writer.sum(outputs), sides[0], sides[1], {}, inputs)


def errors(space: Space, plan: Plan, measurements: Sequence[Measurement]) -> dict[str, Figure]:
    """Held-out errors with the marginal costs among the measurements."""
    nominal_ms = canary_nominal_ms(measurements)
    marginals, networks = [], []
    for measurement in measurements:
        low, cost, high = (nominal_ms * value for value in interval(measurement))
        if measurement.role == "marginal":
            marginals.append(MarginalCost(measurement.subject, cost, low, high))
        else:
            networks.append(MeasuredNetwork(space.parse(measurement.subject), measurement.role, cost))
    run_ = Run("run", "here", local_runtime(), str(space), plan.id, plan.canary, __version__, "", {})
    table = calibrate(run_, nominal_ms, space, marginals, networks)
    costs = {parse_op_key(marginal.op_key): max(marginal.cost_ms, 0.0) for marginal in marginals}
    sums = {
        role: [
            sum(costs[key] * times for key, times in space.op_counts(network.genotype).items())
            for network in networks
            if network.role == role
        ]
        for role in ("calibration", "held_out")
    }
    measured = {role: [network.measured_ms for network in networks if network.role == role] for role in sums}
    base_ms, scale = fit_line(sums["calibration"], measured["calibration"])
    predicted = [base_ms + scale * total for total in sums["held_out"]]
    assert table.held_out is not None
    n = len(predicted)
    return {
        "mape_percent": Figure(value=mape_percent(predicted, measured["held_out"]), unit="%", n=n),
        "scale": Figure(value=scale, n=1),
        "table_mape_percent": Figure(value=table.held_out.mape_percent, unit="%", n=n),
    }


def interval(measurement: Measurement) -> tuple[float, float, float]:
    """(low, middle, high) in canaries."""
    estimate = measurement.estimate()
    return estimate.low, estimate.ratio, estimate.high
