"""A network's cell as inline SVG: nodes, live edges and their primitives."""

from __future__ import annotations

from html import escape

from search.own_model.examine import Names, describe_choices
from shared.spaces import Genotype, Space
from shared.spaces.nas_bench_201 import EDGES, NODES

NAMES = {"skip_connect": "skip", "nor_conv_1x1": "conv 1×1", "nor_conv_3x3": "conv 3×3", "avg_pool_3x3": "pool 3×3"}
COLOURS = {"skip_connect": "#8a8f98", "nor_conv_1x1": "#2a7ab9", "nor_conv_3x3": "#c2410c", "avg_pool_3x3": "#15803d"}
SPACING, MIDDLE, RADIUS = 100, 78, 11
WIDTH, HEIGHT = SPACING * (NODES - 1) + 60, 156


def cell_svg(space: Space, genotype: Genotype, names: Names = ()) -> str:
    """SVG of a cell of NAS-Bench-201; of another space a list of the choices.

    Args:
        names: of a user's own model.
    """
    live = space.live_slots(genotype)
    if names:
        chosen = describe_choices(names, genotype).items()
        return f"<ul>{''.join(f'<li>{escape(choice)}: {escape(name)}</li>' for choice, name in chosen)}</ul>"
    if space.name != "nas-bench-201":
        rows = "".join(f"<li>{escape(space.slots[slot].name)}: {escape(genotype.choices[slot])}</li>" for slot in live)
        return f"<ul>{rows}</ul>"
    edges = "".join(_edge(*EDGES[slot], genotype.choices[slot]) for slot in live)
    reached = sorted({node for slot in live for node in EDGES[slot]})
    nodes = "".join(_node(node) for node in reached)
    label = escape(f"cell {space.format(genotype)}", quote=True)
    return f'<svg class="cell" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{edges}{nodes}</svg>'


def _x(node: int) -> int:
    return 30 + node * SPACING


def _node(node: int) -> str:
    name = {0: "in", NODES - 1: "out"}.get(node, str(node))
    return (
        f'<circle cx="{_x(node)}" cy="{MIDDLE}" r="{RADIUS}" fill="#fff" stroke="#334155" stroke-width="1.5"/>'
        f'<text x="{_x(node)}" y="{MIDDLE + 4}" text-anchor="middle" class="node">{name}</text>'
    )


def _edge(source: int, target: int, primitive: str) -> str:
    """A line between neighbours, an arc below for 0->2 and 1->3, an arc above for 0->3."""
    bend = {1: 0, 2: 92, 3: -100}[target - source]
    x0, x1 = _x(source) + RADIUS, _x(target) - RADIUS
    middle_x, peak_y = (x0 + x1) / 2, MIDDLE + bend / 2
    shift = {(0, 2): -18, (1, 3): 18}.get((source, target), 0)
    colour, name = COLOURS.get(primitive, "#334155"), NAMES.get(primitive, primitive)
    return (
        f'<path d="M{x0} {MIDDLE} Q{middle_x:g} {MIDDLE + bend} {x1} {MIDDLE}" fill="none" stroke="{colour}"'
        f' stroke-width="2"/>'
        f'<text x="{middle_x + shift:g}" y="{peak_y + (14 if bend > 0 else -5):g}" text-anchor="middle" class="op"'
        f' fill="{colour}">{escape(name)}</text>'
    )
