"""What the figures of docs/ share: colours that can be read on light and dark pages, and the SVG form.

Text and axes are drawn in `INK`, which becomes the page's own colour in the SVG: dark on light, light on dark.
"""

from itertools import pairwise
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


def save_way(name: str, title: str, stations: list[tuple[str, str]]) -> None:
    """Write docs/images/NAME.svg: files as boxes, `(path, what happens there)`, in the order of the way."""
    columns, width, height, gap = 3, 310, 62, 34
    rows = -(-len(stations) // columns)
    box = f"0 0 {columns * (width + gap)} {rows * (height + gap)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label="{title}" font-size="11.8">',
        _STYLE,
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" orient="auto">',
        f'<path d="M0 0 10 5 0 10z" fill="{TEAL}"/></marker></defs>',
    ]
    places = []
    for index, (path, text) in enumerate(stations):
        row, column = divmod(index, columns)
        column = column if row % 2 == 0 else columns - 1 - column
        x, y = column * (width + gap) + gap // 2, row * (height + gap) + gap // 2
        places.append((x, y))
        colour = {"search": TEAL, "shared": VIOLET, "profiler_agent": ORANGE}.get(path.split("/")[0], GREY)
        parts += [
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="none" stroke="{colour}"/>',
            f'<text x="{x + 10}" y="{y + 25}" fill="currentColor" font-weight="600">{path}</text>',
            f'<text x="{x + 10}" y="{y + 46}" fill="currentColor">{text}</text>',
        ]
    for (x, y), (next_x, next_y) in pairwise(places):
        if y == next_y:
            ends = (x + width, next_x) if next_x > x else (x, next_x + width)
            line = f"M{ends[0]} {y + height / 2}H{ends[1]}"
        else:
            line = f"M{x + width / 2} {y + height}V{next_y}"
        parts.append(f'<path d="{line}" fill="none" stroke="{TEAL}" stroke-width="2" marker-end="url(#tip)"/>')
    path = IMAGES / f"{name}.svg"
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes, {len(stations)} files")
