"""docs/images/marginal_cost.svg: chains of 1 to 8 copies of an op, timed on this machine.

Make it anew: python docs/figures/marginal_cost.py       (half a minute; measures)
"""

import random
import time

import numpy as np
from figure import GREY, ORANGE, TEAL, make_axes, save

from profiler_agent.ort.sessions import load_graph, local_runtime
from shared.graphs import build_graph
from shared.measurements.graph_spec import ChainGraph, parse_graph_spec
from shared.spaces.op_key import parse_op_key

OPS = {"avg_pool_3x3/16x32x32/16x32x32/s1": TEAL, "nor_conv_1x1/16x32x32/16x32x32/s1": ORANGE}
COPIES = range(1, 9)
ROUNDS, REPEATS, WARM_UP = 60, 12, 4


def main() -> None:
    """Time every chain once per round, in random order; a chain's time is the median of its rounds' 5 % quantiles."""
    graphs = {}
    for op in OPS:
        for copies in COPIES:
            spec = str(ChainGraph(copies, parse_op_key(op)))
            graphs[op, copies] = load_graph(spec, build_graph(parse_graph_spec(spec)), local_runtime())
    values_ms: dict[tuple[str, int], list[float]] = {key: [] for key in graphs}
    order, draws = list(graphs), random.Random(0)
    for _ in range(ROUNDS):
        draws.shuffle(order)
        for key in order:
            for _ in range(WARM_UP):
                graphs[key].run()
            values_ms[key].append(float(np.quantile([run_ms(graphs[key]) for _ in range(REPEATS)], 0.05)))
    drawing, axes = make_axes()
    for op, colour in OPS.items():
        times_ms = np.array([np.median(values_ms[op, copies]) for copies in COPIES])
        marginal_ms = (times_ms[7] - times_ms[1]) / 6
        start_ms = times_ms[1] - 2 * marginal_ms
        axes.plot([0, 8], [start_ms, start_ms + 8 * marginal_ms], color=colour, linewidth=1)
        label = f"{op.split('/')[0]}: marginal {1000 * marginal_ms:.1f} µs, alone {1000 * times_ms[0]:.1f} µs"
        axes.plot(COPIES, times_ms, "o", color=colour, label=label)
        axes.plot(0, start_ms, "o", color=colour, fillstyle="none")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="copies of the op in the chain", ylabel="time of the chain (ms)", ylim=(0, None))
    axes.set_title("The slope is the cost of an op; the rest is the fixed cost of a call", loc="left")
    axes.legend()
    save(drawing, "marginal_cost")


def run_ms(graph: object) -> float:
    """Time of a single run."""
    start_ns = time.perf_counter_ns()
    graph.run()  # type: ignore[attr-defined]
    return (time.perf_counter_ns() - start_ns) / 1e6


if __name__ == "__main__":
    main()
