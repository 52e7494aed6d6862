"""The DARTS space (Liu et al., 2019): normal and reduction cells, four nodes, eight primitives.

Each edge of both cells is a slot. A derived network keeps two incoming edges per node, with "none"
elsewhere. `depth` is the number of cells. The two reduction cells are at 1/3 and 2/3 of the depth.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from shared.errors import InvalidValue
from shared.spaces.op_key import OpKey, Shape
from shared.spaces.space import Genotype, Group, Slot, Space
from shared.spaces.wiring import INPUT, Step, without_dead_steps

NODES = 4
INPUTS = 2
"""A cell reads the outputs of the two cells before it."""
KEPT_EDGES = 2
STEM_MULTIPLIER = 3
PRIMITIVES_DARTS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
EDGES: tuple[tuple[int, int], ...] = tuple((source, node) for node in range(NODES) for source in range(INPUTS + node))
"""(source, node): sources 0 and 1 are the cell's inputs, source 2 + n is node n."""
CELLS = ("normal", "reduce")

_SLOTS = tuple(Slot(f"{cell}.{source}->{node}", PRIMITIVES_DARTS) for cell in CELLS for source, node in EDGES)
_GROUPS = tuple(
    Group(tuple(index + start for index, edge in enumerate(EDGES) if edge[1] == node), KEPT_EDGES)
    for start in range(0, len(_SLOTS), len(EDGES))
    for node in range(NODES)
)
_Sources = list[list[tuple[int, str | None]]]
"""For each node of a cell its (source, primitive) pairs."""
_PAIR = r"\(\s*'([a-z0-9_]+)'\s*,\s*(\d)\s*\)"
_CONCAT = r"(?:range\(2, 6\)|\[2, 3, 4, 5\])"
_GENOTYPE = re.compile(
    rf"Genotype\(\s*normal=\[(.*?)\],\s*normal_concat={_CONCAT},\s*reduce=\[(.*?)\],\s*reduce_concat={_CONCAT}\s*\)"
)


@dataclass(frozen=True)
class Darts(Space):
    """Stem, `depth` cells, classifier; channels double and the side halves in a reduction cell."""

    name: ClassVar[str] = "darts"
    total_stride: ClassVar[int] = 4
    depth: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 3:
            raise InvalidValue("depth", f"{self.depth} cells have no room for two reduction cells (3 do)")
        if self.channels % 2:
            raise InvalidValue("channels", f"{self.channels} is odd (a factorized reduction halves them)")

    @property
    def slots(self) -> tuple[Slot, ...]:
        return _SLOTS

    def format(self, genotype: Genotype) -> str:
        return (
            f"Genotype(normal={self._pairs(genotype, 0)}, normal_concat=range(2, 6), "
            f"reduce={self._pairs(genotype, 1)}, reduce_concat=range(2, 6))"
        )

    def parse(self, text: str) -> Genotype:
        match = _GENOTYPE.fullmatch(text.strip())
        if match is None:
            raise InvalidValue("genotype", f"'{text[:120]}' is not Genotype(normal=..., reduce=...) of DARTS")
        choices = ["none"] * len(_SLOTS)
        for cell, pairs in enumerate(match.groups()):
            found = re.findall(_PAIR, pairs)
            rest = re.sub(_PAIR, "", pairs).strip(" ,")
            if len(found) != NODES * KEPT_EDGES or rest:
                raise InvalidValue("genotype", f"{CELLS[cell]} does not list two (primitive, source) pairs per node")
            for index, (primitive, digit) in enumerate(found):
                source, node = int(digit), index // KEPT_EDGES
                edge = (source, node)
                if edge not in EDGES:
                    raise InvalidValue("genotype", f"{CELLS[cell]} node {node} has no source {source}")
                slot = cell * len(EDGES) + EDGES.index(edge)
                if choices[slot] != "none":
                    raise InvalidValue("genotype", f"{CELLS[cell]} node {node} reads source {source} twice")
                choices[slot] = primitive
        genotype = Genotype(tuple(choices))
        self.check(genotype)
        return genotype

    def live_slots(self, genotype: Genotype) -> tuple[int, ...]:
        nodes = [sources for cell in range(len(CELLS)) for sources in self._sources(genotype, cell)]
        if any(len(sources) != KEPT_EDGES for sources in nodes):
            return ()
        return tuple(index for index, choice in enumerate(genotype.choices) if choice != "none")

    def slot_ops(self, slot: int, primitive: str) -> tuple[OpKey, ...]:
        if primitive == "none":
            return ()
        cell, (source, _) = slot // len(EDGES), EDGES[slot % len(EDGES)]
        return tuple(
            self._edge_key(primitive, shape, reduces and source < INPUTS)
            for _, shape, reduces in self._cells()
            if reduces == bool(cell)
        )

    def fixed_ops(self) -> tuple[OpKey, ...]:
        """The ops of every network; not every network preprocesses the first input of a cell."""
        stem, classifier = self._ends()
        return (stem, *(self._preprocess_key(cell, 1) for cell in range(self.depth)), classifier)

    def op_counts(self, genotype: Genotype) -> Counter[OpKey]:
        """Chosen ops, and the preprocessing of a cell's first input if an edge reads it."""
        counts = super().op_counts(genotype)
        if counts:
            steps = (step for step in self.wiring(genotype) if step.name.endswith("preprocess0."))
            counts.update(step.key for step in steps if step.key)
        return counts

    def op_keys(self) -> tuple[OpKey, ...]:
        first_inputs = (self._preprocess_key(cell, 0) for cell in range(self.depth))
        return tuple(sorted({*super().op_keys(), *first_inputs}))

    def fastest(self) -> Genotype:
        one_cell = tuple("skip_connect" if source < KEPT_EDGES else "none" for source, _ in EDGES)
        return Genotype(one_cell * len(CELLS))

    def sample(self, rng: random.Random) -> Genotype:
        choices = ["none"] * len(_SLOTS)
        for cell in range(len(CELLS)):
            for node in range(NODES):
                for source in rng.sample(range(INPUTS + node), KEPT_EDGES):
                    choices[cell * len(EDGES) + EDGES.index((source, node))] = rng.choice(PRIMITIVES_DARTS[1:])
        return Genotype(tuple(choices))

    @property
    def groups(self) -> tuple[Group, ...]:
        return _GROUPS

    def wiring(self, genotype: Genotype) -> tuple[Step, ...]:
        return without_dead_steps(self._steps([self._sources(genotype, cell) for cell in range(len(CELLS))]))

    def supernet_wiring(self) -> tuple[Step, ...]:
        every_edge: _Sources = [[(source, None) for source in range(INPUTS + node)] for node in range(NODES)]
        return tuple(self._steps([every_edge] * len(CELLS)))

    def _steps(self, cells: Sequence[_Sources]) -> list[Step]:
        """The steps of a network whose normal and reduction cells read these sources.

        A source without a primitive gets every candidate.
        """
        stem, classifier = self._ends()
        steps = [Step("stem.", (INPUT,), stem)]
        before, last = "stem.", "stem."
        for cell, shape, reduces in self._cells():
            prefix = f"cells.{cell}."
            values = []
            for place, cell_input in enumerate((before, last)):
                steps.append(Step(f"{prefix}preprocess{place}.", (cell_input,), self._preprocess_key(cell, place)))
                values.append(steps[-1].name)
            for node, sources in enumerate(cells[int(reduces)]):
                inputs = []
                for source, primitive in sources:
                    slot, halves = int(reduces) * len(EDGES) + EDGES.index((source, node)), reduces and source < INPUTS
                    names = PRIMITIVES_DARTS[1:] if primitive is None else (primitive,)
                    keys = tuple(self._edge_key(name, shape, halves) for name in names)
                    step = Step(f"{prefix}{node}.{source}.", (values[source],), slot=slot)
                    steps.append(replace(step, candidates=keys) if primitive is None else replace(step, key=keys[0]))
                    inputs.append(steps[-1].name)
                steps.append(Step(f"{prefix}node{node}", tuple(inputs), join="sum"))
                values.append(steps[-1].name)
            steps.append(Step(f"{prefix}output", tuple(values[INPUTS:]), join="concat"))
            before, last = last, steps[-1].name
        steps.append(Step("classifier.", (last,), classifier))
        return steps

    def _cells(self) -> Iterator[tuple[int, Shape, bool]]:
        """(index, shape of its nodes, whether it reduces) of every cell."""
        channels, side = self.channels, self.resolution
        for cell in range(self.depth):
            reduces = cell in (self.depth // 3, 2 * self.depth // 3)
            if reduces:
                channels, side = 2 * channels, side // 2
            yield cell, Shape(channels, side, side), reduces

    def _preprocess_key(self, cell: int, place: int) -> OpKey:
        """The op that gives input `place` of a cell its channels and its side."""
        outputs = self._outputs()
        current, source = outputs[cell + 1], outputs[cell + place]
        halves = source.height != current.height
        channels = outputs[cell + 2].channels // NODES
        output = Shape(channels, current.height, current.width)
        return OpKey("skip_connect" if halves else "nor_conv_1x1", source, output, 2 if halves else 1)

    def _outputs(self) -> list[Shape]:
        """The shapes that a cell may read: the stem's twice, then every cell's."""
        stem = Shape(STEM_MULTIPLIER * self.channels, self.resolution, self.resolution)
        cells = (Shape(NODES * shape.channels, shape.height, shape.width) for _, shape, _ in self._cells())
        return [stem, stem, *cells]

    def _ends(self) -> tuple[OpKey, OpKey]:
        stem, *_, last = self._outputs()
        return (
            OpKey("stem_conv_3x3", self.input_shape, stem, 1),
            OpKey("pool_linear", last, Shape(self.classes, 1, 1), 1),
        )

    @staticmethod
    def _edge_key(primitive: str, shape: Shape, halves: bool) -> OpKey:
        if not halves:
            return OpKey(primitive, shape, shape, 1)
        return OpKey(primitive, Shape(shape.channels, 2 * shape.height, 2 * shape.width), shape, 2)

    @staticmethod
    def _sources(genotype: Genotype, cell: int) -> _Sources:
        """For each node of a cell its (source, primitive) pairs, by source."""
        chosen = genotype.choices[cell * len(EDGES) : (cell + 1) * len(EDGES)]
        return [
            [
                (source, choice)
                for (source, target), choice in zip(EDGES, chosen, strict=True)
                if target == node and choice != "none"
            ]
            for node in range(NODES)
        ]

    def _pairs(self, genotype: Genotype, cell: int) -> str:
        pairs = [(primitive, source) for sources in self._sources(genotype, cell) for source, primitive in sources]
        return "[" + ", ".join(f"('{primitive}', {source})" for primitive, source in pairs) + "]"
