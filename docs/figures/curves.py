"""docs/images/curves.svg: share of what the tables allow, against the number of networks that a strategy scores.

Make it anew: python docs/figures/curves.py       (reads what the benchmarks nas_bench_201 and nas_bench_macro kept of
each seed in benchmarks/results)
"""

import json
from pathlib import Path
from statistics import fmean, stdev

from figure import GREY, ORANGE, TEAL, VIOLET, make_axes, save

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TRUTHS = {"nas_bench_201": "NAS-Bench-201", "nas_bench_macro": "NAS-Bench-Macro"}
STYLES = {"dartscc": (TEAL, "o-"), "random": (GREY, "x--"), "nsga2": (ORANGE, "^-")}


def main() -> None:
    """A panel per recorded truth: mean over seeds, and a standard deviation to either side."""
    recorded = {title: RESULTS / f"{name}_seeds.json" for name, title in TRUTHS.items()}
    recorded = {title: path for title, path in recorded.items() if path.is_file()}
    drawing, panels = make_axes(columns=len(recorded), size=(4.6 * len(recorded), 3.4), sharey=True, squeeze=False)
    panels = panels[0]
    for panel, (title, path) in zip(panels, recorded.items(), strict=True):
        seeds = list(json.loads(path.read_text(encoding="utf-8")).values())
        plural = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
        counts = sorted({int(key.split(".")[2]) for key in seeds[0] if key.startswith("curve.")})
        for strategy, (colour, style) in STYLES.items():
            found = [[seed[f"curve.{strategy}.{count}"] for seed in seeds] for count in counts]
            spreads = [stdev(values) if len(values) > 1 else 0.0 for values in found]
            panel.errorbar(counts, list(map(fmean, found)), spreads, fmt=style, color=colour, capsize=3, label=strategy)
        panel.axhline(fmean(seed["share"] for seed in seeds), color=VIOLET, linestyle=":", label="every network scored")
        panel.set(xlabel="networks scored", xscale="log", title=f"{title}, {plural}")
        panel.set_xticks(counts, [f"{count:,}" for count in counts])
        panel.set_xticks([], minor=True)
    panels[0].set_ylabel("share (0 luck, 1 true accuracies)")
    panels[0].legend(fontsize=8, loc="lower right")
    save(drawing, "curves")


if __name__ == "__main__":
    main()
