"""docs/images/kernels.svg: a network's nodes as exported, the kernels that ONNX Runtime executes, what each predicts.

Make it anew: python docs/figures/kernels.py       (seconds; the errors are those of benchmarks/results/tables.json)
"""

import json
from collections import Counter
from pathlib import Path

from figure import ORANGE, TEAL, make_axes, save

from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.onnx_reader import read_graph
from profiler_agent.ort.sessions import local_runtime
from shared.graphs import build_graph
from shared.measurements.graph_spec import parse_graph_spec

NETWORK = (
    "network:nas-bench-201/r32/c16/n5/k10/i3:"
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|"
)
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "tables.json"
TABLES = {"nb201_n5": "nas-bench\n-201", "nb201_int8": "the same\nin int8", "darts": "darts"}


def main() -> None:
    """Left: counts by kind. Right: mean error on held-out networks of op prices and of kernel prices."""
    model = build_graph(parse_graph_spec(NETWORK))
    nodes = Counter(node.op_type for node in read_graph(model).nodes)
    kernels = Counter()
    for kernel, count in count_kernels(NETWORK, model, local_runtime()).items():
        kernels[name_of(kernel)] += count
    drawing, (left, middle, right) = make_axes(columns=3, size=(9.6, 3.4), width_ratios=(1, 1, 1.25))
    for axes, counts, colour, title in (
        (left, nodes, ORANGE, f"{nodes.total()} nodes as exported"),
        (middle, kernels, TEAL, f"{kernels.total()} kernels executed"),
    ):
        rows = counts.most_common()[::-1]
        bars = axes.barh([name for name, _ in rows], [count for _, count in rows], color=colour)
        axes.bar_label(bars, padding=2)
        axes.set_title(title, loc="left")
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.15)
    figures = json.loads(RESULTS.read_text(encoding="utf-8"))["figures"]
    for offset, kind, colour, label in ((-0.2, ".ops", ORANGE, "op prices"), (0.2, "", TEAL, "kernel prices")):
        values = [figures[f"profiling.{table}{kind}.mape_percent"]["value"] for table in TABLES]
        places = [place + offset for place in range(len(TABLES))]
        right.bar_label(right.bar(places, values, 0.4, color=colour, label=label), fmt="%.1f", padding=2)
    right.set_xticks(range(len(TABLES)), list(TABLES.values()), fontsize=8)
    right.set_title("error on held-out networks (%)", loc="left")
    right.legend()
    right.margins(y=0.2)
    save(drawing, "kernels")


def name_of(kernel: str) -> str:
    """The operator of a kernel with what is fused into it: `nchwc.Conv/…/k3x3.sum.Relu` as Conv+Add+Relu."""
    operator, *_, details = kernel.split("/")
    fused = [{"sum": "Add"}.get(part, part) for part in details.split(".") if part == "sum" or part[:1].isupper()]
    return "+".join([operator.removeprefix("nchwc."), *fused])


if __name__ == "__main__":
    main()
