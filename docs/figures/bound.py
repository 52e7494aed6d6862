"""docs/images/bound.svg: predicted against measured networks of a table, and the 95 % bound above each.

Make it anew: make demo && python docs/figures/bound.py       (reads the demo's table, runs/demo/search/tables)
"""

import json
from pathlib import Path

import numpy as np
from figure import GREY, INK, ORANGE, TEAL, make_axes, save

TABLES = Path("runs/demo/search/tables")


def main() -> None:
    """Held-out networks by op prices."""
    table = json.loads(max(TABLES.glob("*.json"), key=lambda path: path.stat().st_mtime).read_text(encoding="utf-8"))
    networks = [one for one in table["networks"] if one["role"] == "held_out"]
    measured, predicted, upper = (
        np.array([one[name] for one in networks]) for name in ("measured_ms", "predicted_ms", "upper_ms")
    )
    drawing, axes = make_axes(size=(7.2, 3.4))
    order = np.argsort(measured)
    x = np.arange(len(order))
    error, bound = 100 * (measured / predicted - 1)[order], 100 * (upper / predicted - 1)[order]
    axes.fill_between(x, -100, bound, step="mid", color=TEAL, alpha=0.15, linewidth=0, label="below the 95 % bound")
    axes.axhline(0, color=GREY, linewidth=0.8)
    held = error <= bound
    axes.plot(x[held], error[held], "o", color=TEAL, label=f"{held.sum()} networks that keep it")
    axes.plot(x[~held], error[~held], "o", color=ORANGE, label=f"{(~held).sum()} that do not")
    reach = 1.5 * max(np.abs(error).max(), bound.max())
    axes.set(ylim=(-reach, reach), xlabel="held-out networks, the fastest first", ylabel="measured - predicted (%)")
    axes.set_title(f"{len(networks)} networks that no fit saw; {table['space']}, this machine", loc="left", color=INK)
    axes.legend(ncols=3, loc="upper left", fontsize=9)
    save(drawing, "bound")


if __name__ == "__main__":
    main()
