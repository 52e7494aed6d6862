"""docs/images/by_hand.svg: members of a family beside ladders made by hand, accuracy against measured latency.

Make it anew: python -m benchmarks by_hand && python docs/figures/by_hand.py [FOLDER]   (reads points.json of the
benchmark's folder, by default runs/by_hand)
"""

import json
import sys
from pathlib import Path
from statistics import fmean, pstdev

from figure import GREY, ORANGE, TEAL, VIOLET, make_axes, save

COLOURS = {"resnet": GREY, "vgg": VIOLET, "mobilenet_v2": TEAL, "shufflenet_v2": "#c9a227"}


def main() -> None:
    """A panel for each data set; bars are the standard deviation over the seeds."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/by_hand")
    data_sets = json.loads((folder / "points.json").read_text(encoding="utf-8"))
    drawing, axes = make_axes(columns=len(data_sets), size=(4.6 * len(data_sets), 3.6), squeeze=False)
    for panel, (data_set, points) in zip(axes[0], data_sets.items(), strict=True):
        lines = {"members": [point for point in points if point["budget_ms"] is not None]}
        for family in COLOURS:
            lines[family] = [point for point in points if point["name"].startswith(f"{family}-w")]
        for name, line in lines.items():
            line.sort(key=lambda point: point["measured_ms"])
            panel.errorbar(
                [point["measured_ms"] for point in line],
                [fmean(point["accuracies"]) for point in line],
                [pstdev(point["accuracies"]) for point in line],
                color=COLOURS.get(name, ORANGE),
                marker="o",
                markersize=4,
                linewidth=2 if name == "members" else 1,
                label=name,
            )
        panel.set(xlabel="measured latency (ms)", ylabel="test accuracy (%)", xscale="log")
        low_ms, high_ms = panel.get_xlim()
        ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low_ms < tick < high_ms]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.set_xticks([], minor=True)
        panel.set_title(f"{data_set}, {len(points[0]['accuracies'])} seeds", loc="left")
    axes[0][0].legend(fontsize=8, loc="lower right")
    save(drawing, "by_hand")


if __name__ == "__main__":
    main()
