"""docs/images/family.svg: the family of a search, its baseline, and the networks picked for six budgets.

Make it anew: make demo && python docs/figures/family.py       (reads family.json and ladder.json of runs/demo)
"""

import json
from pathlib import Path

from figure import GREY, ORANGE, TEAL, VIOLET, make_axes, save

DEMO = Path("runs/demo")


def main() -> None:
    """Left: latency against what a network scores before any training of its own. Right: budget, bound, measured."""
    family = json.loads((DEMO / "search" / "family.json").read_text(encoding="utf-8"))
    ladder = json.loads((DEMO / "ladder.json").read_text(encoding="utf-8"))
    drawing, (left, right) = make_axes(columns=2, size=(9.2, 3.6), width_ratios=(1.35, 1))
    for name, colour, style, label in (
        ("candidates", GREY, ".", "candidates"),
        ("random", ORANGE, "x", "random networks, ranked alike"),
        ("members", TEAL, "o", "members of the family"),
    ):
        x, y = zip(*((one["predicted_ms"], one["accuracy"]) for one in family[name]), strict=True)
        left.plot(x, y, style, color=colour, label=f"{len(x)} {label}")
    for rung in ladder:
        left.axvline(rung["target_ms"], color=VIOLET, linewidth=0.7, linestyle=":")
    left.set(xlabel="predicted latency (ms); dotted: the six budgets", ylabel="inherited accuracy (%)", xscale="log")
    low_ms, high_ms = left.get_xlim()
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low_ms < tick < high_ms]
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_xticks([], minor=True)
    left.legend(fontsize=8, loc="lower right")
    rows = range(len(ladder))
    right.axvline(100, color=VIOLET, linewidth=1)
    for name, colour, style in (("predicted_ms", GREY, "|"), ("upper_ms", TEAL, "o"), ("measured_ms", ORANGE, "^")):
        label = {"predicted_ms": "predicted", "upper_ms": "99 % bound", "measured_ms": "measured"}[name]
        right.plot([100 * rung[name] / rung["target_ms"] for rung in ladder], rows, style, color=colour, label=label)
    right.set_yticks(rows, [f"{rung['target_ms']:.3f} ms" for rung in ladder])
    right.invert_yaxis()
    right.set(xlabel="% of the budget", xlim=(None, 103))
    right.set_title(f"{sum(rung['met'] for rung in ladder)} of {len(ladder)} budgets met", loc="left")
    right.legend(fontsize=8, loc="best")
    save(drawing, "family")


if __name__ == "__main__":
    main()
