"""What the figures of docs/ share: colours that can be read on light and dark pages, and the SVG form.

Text and axes are drawn in `INK`, which becomes the page's own colour in the SVG: dark on light, light on dark.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

IMAGES = Path(__file__).parents[1] / "images"
INK, PAPER = "#010203", "none"
TEAL, ORANGE, VIOLET, GREY = "#1b9e8f", "#e07b39", "#8a6fdf", "#8b949e"
LARGEST_BYTES = 200_000

_STYLE = (
    "<style>svg{color:#24292f}@media (prefers-color-scheme:dark){svg{color:#d6dde4}}"
    "text{font-family:system-ui,sans-serif}</style>"
)


def make_axes(columns: int = 1, rows: int = 1, size: tuple[float, float] = (7.2, 3.2), **options: Any) -> Any:
    """A figure and its axes, in the common style."""
    plt.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "lutnas",
            "font.size": 10,
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlesize": 10,
            "axes.facecolor": PAPER,
            "figure.facecolor": PAPER,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "legend.labelcolor": INK,
            "axes.grid": True,
            "grid.color": GREY,
            "grid.alpha": 0.25,
        }
    )
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **options)


def save(drawing: Any, name: str) -> None:
    """Write docs/images/NAME.svg."""
    path = IMAGES / f"{name}.svg"
    drawing.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = path.read_text(encoding="utf-8").replace(INK, "currentColor")
    head, close, rest = text.partition("<defs>")
    path.write_text("\n".join(line.rstrip() for line in f"{head}{_STYLE}{close}{rest}".splitlines()) + "\n")
    size = path.stat().st_size
    assert size < LARGEST_BYTES, f"{path} has {size} bytes"
    print(f"{path}: {size:,} bytes")
