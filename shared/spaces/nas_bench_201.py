"""NAS-Bench-201 (Dong and Yang, 2020): a cell of six edges, five primitives, three stages.

A slot decides the same edge in every cell of every stage. A residual block of stride 2 joins two
stages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from shared.errors import InvalidValue
from shared.spaces.op_key import OpKey, Shape
from shared.spaces.space import Genotype, Slot, Space
from shared.spaces.wiring import INPUT, Step

NODES = 4
STAGES = 3
EDGES: tuple[tuple[int, int], ...] = tuple((source, target) for target in range(1, NODES) for source in range(target))
"""(source, target) of each slot, in the order of NAS-Bench-201's architecture strings."""
PRIMITIVES_201 = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

_SLOTS = tuple(Slot(f"{source}->{target}", PRIMITIVES_201) for source, target in EDGES)
_STEP = re.compile(r"([a-z0-9_]+)~(\d)")


@dataclass(frozen=True)
class NasBench201(Space):
    """Stem, three stages of `depth` cells, a residual block after each but the last, classifier."""

    name: ClassVar[str] = "nas-bench-201"
    total_stride: ClassVar[int] = 4

    @property
    def slots(self) -> tuple[Slot, ...]:
        return _SLOTS

    def format(self, genotype: Genotype) -> str:
        nodes = ["|"] * (NODES - 1)
        for (source, target), choice in zip(EDGES, genotype.choices, strict=True):
            nodes[target - 1] += f"{choice}~{source}|"
        return "+".join(nodes)

    def parse(self, text: str) -> Genotype:
        steps = [step for node in text.split("+") for step in node.strip("|").split("|")]
        matches = [_STEP.fullmatch(step) for step in steps]
        sources = [int(match.group(2)) if match else None for match in matches]
        if sources != [source for source, _ in EDGES]:
            raise InvalidValue("genotype", f"'{text[:120]}' is not an architecture string of NAS-Bench-201")
        genotype = Genotype(tuple(match.group(1) for match in matches if match))
        self.check(genotype)
        if self.format(genotype) != text:
            raise InvalidValue("genotype", f"'{text[:120]}' is not written as NAS-Bench-201 writes it")
        return genotype

    def live_slots(self, genotype: Genotype) -> tuple[int, ...]:
        edges = [(i, *edge) for i, edge in enumerate(EDGES) if genotype.choices[i] != "none"]
        reached = {0}
        for _, source, target in edges:  # EDGES is ordered by target, so one pass suffices
            if source in reached:
                reached.add(target)
        needed = {NODES - 1}
        for _, source, target in sorted(edges, key=lambda edge: -edge[2]):
            if target in needed:
                needed.add(source)
        return tuple(i for i, source, target in edges if source in reached and target in needed)

    def signature(self, genotype: Genotype) -> str:
        """The output as an expression without skips, terms sorted, after the number of its ops.

        The number distinguishes an op that is used twice from two equal ops.
        """
        terms: list[Counter[int]] = [Counter({-1: 1}), *(Counter() for _ in range(NODES - 1))]  # op -> times
        written = {-1: "x"}

        def write(node: int) -> str:
            return "+".join(sorted(f"{times}*{written[op]}" for op, times in terms[node].items()))

        for slot in self.live_slots(genotype):
            (source, target), choice = EDGES[slot], genotype.choices[slot]
            if choice == "skip_connect":
                terms[target].update(terms[source])
            else:
                written[slot] = f"{choice}({write(source)})"
                terms[target][slot] += 1
        return f"{len(written) - 1}: {write(NODES - 1)}"

    def slot_ops(self, slot: int, primitive: str) -> tuple[OpKey, ...]:
        if primitive == "none":
            return ()
        return tuple(OpKey(primitive, shape, shape, 1) for shape in self.stage_shapes() for _ in range(self.depth))

    def fixed_ops(self) -> tuple[OpKey, ...]:
        first, second, third = self.stage_shapes()
        return (
            OpKey("stem_conv_3x3", self.input_shape, first, 1),
            OpKey("residual_block", first, second, 2),
            OpKey("residual_block", second, third, 2),
            OpKey("classifier", third, Shape(self.classes, 1, 1), 1),
        )

    def wiring(self, genotype: Genotype) -> tuple[Step, ...]:
        return self._skeleton(lambda prefix, cell_input, shape: self._cell(genotype, prefix, cell_input, shape))

    def supernet_wiring(self) -> tuple[Step, ...]:
        return self._skeleton(self._supernet_cell)

    def _skeleton(self, make_cell: Callable[[str, str, Shape], list[Step]]) -> tuple[Step, ...]:
        stem, *reductions, classifier = self.fixed_ops()
        steps = [Step("stem.", (INPUT,), stem)]
        for stage, shape in enumerate(self.stage_shapes()):
            if stage:
                steps.append(Step(f"reductions.{stage - 1}.", (steps[-1].name,), reductions[stage - 1]))
            for cell in range(self.depth):
                steps += make_cell(f"stages.{stage}.{cell}.", steps[-1].name, shape)
        steps.append(Step("classifier.", (steps[-1].name,), classifier))
        return tuple(steps)

    def _cell(self, genotype: Genotype, prefix: str, cell_input: str, shape: Shape) -> list[Step]:
        steps: list[Step] = []
        values = {0: cell_input}
        arriving: dict[int, list[str]] = {}
        for slot in self.live_slots(genotype):
            source, target = EDGES[slot]
            if source not in values:
                values[source] = f"{prefix}node{source}"
                steps.append(Step(values[source], tuple(arriving[source]), join="sum"))
            key = OpKey(genotype.choices[slot], shape, shape, 1)
            steps.append(Step(f"{prefix}{slot}.", (values[source],), key, slot=slot))
            arriving.setdefault(target, []).append(steps[-1].name)
        steps.append(Step(f"{prefix}output", tuple(arriving[NODES - 1]), join="sum"))
        return steps

    @staticmethod
    def _supernet_cell(prefix: str, cell_input: str, shape: Shape) -> list[Step]:
        steps: list[Step] = []
        values = [cell_input]
        candidates = tuple(OpKey(name, shape, shape, 1) for name in PRIMITIVES_201 if name != "none")
        for target in range(1, NODES):
            arriving = [slot for slot, edge in enumerate(EDGES) if edge[1] == target]
            for slot in arriving:
                source = values[EDGES[slot][0]]
                steps.append(Step(f"{prefix}{slot}.", (source,), slot=slot, candidates=candidates))
            values.append(f"{prefix}node{target}")
            steps.append(Step(values[-1], tuple(f"{prefix}{slot}." for slot in arriving), join="sum"))
        return steps

    def fastest(self) -> Genotype:
        return Genotype(tuple("skip_connect" if edge == (0, NODES - 1) else "none" for edge in EDGES))

    def stage_shapes(self) -> tuple[Shape, ...]:
        """Feature maps of the three stages: each halves the side and doubles the channels."""
        sides = [(self.channels << stage, self.resolution >> stage) for stage in range(STAGES)]
        return tuple(Shape(channels, side, side) for channels, side in sides)
