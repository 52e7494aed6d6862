"""docs/images/strategies.svg: what each strategy hands over for three budgets, by true accuracy and latency.

Make it anew: python docs/figures/strategies.py       (reads what the benchmarks strategies, strategies_macro and
strategies_darts kept in benchmarks/results)
"""

import json
import math
from pathlib import Path
from statistics import fmean

from figure import GREY, ORANGE, TEAL, VIOLET, make_axes, save

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PANELS = (
    ("strategies_networks", "pixel3", "NAS-Bench-201, Pixel 3"),
    ("strategies_networks", "raspi4", "NAS-Bench-201, Raspberry Pi 4"),
    ("strategies_macro_networks", "here", "NAS-Bench-Macro, this machine"),
    ("strategies_darts_networks", "here", "darts, this machine, Fashion-MNIST"),
)
STYLES = {
    "dartscc": (TEAL, "o-"),
    "random": (GREY, "x--"),
    "nsga2": (GREY, "^--"),
    "fbnet": (ORANGE, "s-"),
    "proxylessnas": (ORANGE, "v:"),
    "dca-nas": (VIOLET, "D-"),
    "gdas": (VIOLET, "P"),
    "darts": (VIOLET, "*"),
}
COLUMNS = 2
PERCENT = (20, 40, 60, 80, 85, 88, 90, 92, 93, 94)
MS = (0.05, 0.1, 0.15, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def main() -> None:
    """A panel per device; a point is the mean over the seeds that have a network."""
    there = [(RESULTS / f"{name}.json", device, title) for name, device, title in PANELS]
    there = [panel for panel in there if panel[0].is_file()]
    columns, rows = min(len(there), COLUMNS), math.ceil(len(there) / COLUMNS)
    drawing, panels = make_axes(columns, rows, size=(5 * columns, 3.8 * rows), squeeze=False)
    for panel in panels.flat[len(there) :]:
        panel.remove()
    for panel, (path, device, title) in zip(panels.flat, there, strict=False):
        draw(panel, json.loads(path.read_text(encoding="utf-8")), device)
        panel.set(xlabel="true latency, ms", title=title)
        panel.legend(fontsize=7, loc="lower right")
    for left in panels[:, 0]:
        left.set_ylabel("true accuracy, %")
    save(drawing, "strategies")


def accuracy(network) -> float:
    """On the data set of the search: the first."""
    return next(iter(network["accuracy"].values()))


def draw(panel, recorded, device) -> None:
    """Points of every strategy, the true front and the budgets."""
    front = recorded["fronts"][device]
    panel.step(*zip(*((ms, 100 - best) for ms, best in front), strict=True), where="post", color=GREY, linewidth=0.7)
    own = [network for network in recorded["networks"] if network["device"] == device]
    budgets_ms = sorted({network["budget_ms"] for network in own})
    for budget_ms in budgets_ms:
        panel.axvline(budget_ms, color=GREY, linewidth=0.7, linestyle=":")
    shown = [(budget_ms, 100 - max(best for _, best in front)) for budget_ms in budgets_ms]
    for strategy, (colour, style) in STYLES.items():
        points = []
        for budget_ms in budgets_ms:
            same = [n for n in own if n["strategy"] == strategy and n["budget_ms"] == budget_ms and n["genotype"]]
            if same:
                error = fmean(100 - accuracy(network) for network in same)
                points.append((fmean(network["latency_ms"] for network in same), error))
        if points:
            panel.plot(*zip(*points, strict=True), style, color=colour, markersize=5, linewidth=1, label=strategy)
            shown += points
    latencies_ms, errors = zip(*shown, strict=True)
    panel.set(xscale="log", xlim=(0.8 * min(latencies_ms), 1.25 * max(latencies_ms)))
    panel.set(yscale="log", ylim=(1.15 * max(errors), 0.93 * min(errors)))
    panel.set_xticks([ms for ms in MS if min(latencies_ms) <= ms <= max(latencies_ms)], minor=False)
    panel.xaxis.set_major_formatter("{x:g}")
    percent = [accuracy for accuracy in PERCENT if min(errors) <= 100 - accuracy <= 1.15 * max(errors)]
    panel.set_yticks([100 - accuracy for accuracy in percent], percent)
    panel.set_xticks([], minor=True)
    panel.set_yticks([], minor=True)


if __name__ == "__main__":
    main()
