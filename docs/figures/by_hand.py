"""docs/images/by_hand.svg: accuracy against measured latency, members of a search and networks made by hand.

Make it anew: python docs/figures/by_hand.py       (reads what the benchmarks by_hand kept in
benchmarks/results/by_hand_points.json)
"""

import json
from pathlib import Path
from statistics import fmean, stdev

from figure import GREY, ORANGE, TEAL, VIOLET, make_axes, save

POINTS = Path(__file__).parents[2] / "benchmarks" / "results" / "by_hand_points.json"
TITLES = {
    "fashion-mnist": "Fashion-MNIST",
    "cifar-10": "CIFAR-10, JPEG copy",
    "drawn": "five kinds of drawings, 96 x 96",
}
FAMILIES = {
    "vgg": (ORANGE, "s--"),
    "resnet": (GREY, "^--"),
    "mobilenet_v2": (VIOLET, "x--"),
    "shufflenet_v2": (GREY, "+:"),
}


def main() -> None:
    """A panel per data set; bars are a standard deviation over the seeds."""
    recorded = json.loads(POINTS.read_text(encoding="utf-8"))
    size = (4.6 * len(recorded), 3.6)
    drawing, panels = make_axes(columns=len(recorded), size=size, squeeze=False)
    for panel, (data_set, points) in zip(panels[0], recorded.items(), strict=True):
        draw(panel, [point for point in points if point["budget_ms"] is not None], TEAL, "o-", "searched")
        for family, (colour, style) in FAMILIES.items():
            draw(panel, [point for point in points if point["name"].startswith(f"{family}-")], colour, style, family)
        panel.set(xlabel="measured on this machine, ms", xscale="log", title=TITLES[data_set])
        panel.legend(fontsize=8, loc="lower right")
    panels[0][0].set_ylabel("accuracy on the test images, %")
    save(drawing, "by_hand")


def draw(panel, points, colour, style, label) -> None:
    """A line of networks by latency, if there are any."""
    points = sorted(points, key=lambda point: point["measured_ms"])
    spreads = [stdev(point["accuracies"]) if len(point["accuracies"]) > 1 else 0.0 for point in points]
    x, y = ([point["measured_ms"] for point in points], [fmean(point["accuracies"]) for point in points])
    if points:
        panel.errorbar(x, y, spreads, fmt=style, color=colour, capsize=2, markersize=4, linewidth=1, label=label)


if __name__ == "__main__":
    main()
