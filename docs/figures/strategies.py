"""docs/images/strategies.svg: true accuracy against true latency of what each strategy hands over.

Make it anew: python -m benchmarks strategies && python docs/figures/strategies.py
(reads benchmarks/results/strategies_networks.json)
"""

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from figure import GREY, ORANGE, TEAL, VIOLET, make_axes, save

NETWORKS = Path(__file__).parents[2] / "benchmarks" / "results" / "strategies_networks.json"
DEVICES = {"pixel3": "Pixel 3", "raspi4": "Raspberry Pi 4"}
STYLES = {
    "dartscc": (TEAL, "o-"),
    "dca-nas": (ORANGE, "s-"),
    "fbnet": (VIOLET, "^-"),
    "proxylessnas": (VIOLET, "v--"),
    "random": (GREY, "x--"),
    "nsga2": (GREY, "+-"),
    "darts": (ORANGE, "*"),
    "gdas": (TEAL, "D"),
}
LOWEST = 84
"""Percent: what lies lower is drawn at the edge."""


def main() -> None:
    """A panel per device: means over seeds for each budget, and the best that is possible."""
    content = json.loads(NETWORKS.read_text(encoding="utf-8"))
    drawing, panels = make_axes(columns=2, size=(9.2, 3.8), sharey=True)
    for panel, (device, title) in zip(panels, DEVICES.items(), strict=True):
        x, y = zip(*content["fronts"][device], strict=True)
        panel.step(x, y, where="post", color=GREY, linewidth=0.8, label="best possible")
        for strategy, (colour, style) in STYLES.items():
            points = means(content["networks"], device, strategy)
            if points:
                panel.plot(*zip(*points, strict=True), style, color=colour, markersize=5, linewidth=1, label=strategy)
        panel.set(xlabel="true latency (ms)", ylim=(LOWEST, 94.8), xscale="log")
        ticks = [tick for tick in (2, 5, 10, 20, 50, 100) if panel.get_xlim()[0] < tick < panel.get_xlim()[1]]
        panel.set_xticks(ticks, [f"{tick}" for tick in ticks])
        panel.set_xticks([], minor=True)
        panel.set_title(title, loc="left")
    panels[0].set_ylabel("true accuracy on CIFAR-10 (%)")
    panels[0].legend(fontsize=7, loc="lower right", ncols=2)
    panels[1].set_title(f"{content['seeds']} seeds, {content['updates']:,} updates", loc="right", fontsize=8)
    save(drawing, "strategies")


def means(networks: list[dict], device: str, strategy: str) -> list[tuple[float, float]]:
    """(ms, accuracy) for each budget, over the seeds that have a network."""
    by_budget = defaultdict(list)
    for network in networks:
        if (network["device"], network["strategy"]) == (device, strategy) and network["genotype"] is not None:
            by_budget[network["budget_ms"]].append((network["latency_ms"], network["accuracy"]["cifar10"]))
    pairs = {tuple(map(fmean, zip(*found, strict=True))) for found in by_budget.values()}
    return [(ms, max(accuracy, LOWEST)) for ms, accuracy in sorted(pairs)]


if __name__ == "__main__":
    main()
