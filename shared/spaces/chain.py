"""A chain of layers with a choice each, between a stem and a head: `fbnet`, `mobile`, `nas-bench-macro`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from shared.spaces.op_key import OpKey, Shape
from shared.spaces.space import Genotype, IndependentSlots, Slot
from shared.spaces.wiring import INPUT, Step


@dataclass(frozen=True)
class Chain(IndependentSlots):
    """Stem, a layer per slot, poolings between some, 1x1 convolution, classifier.

    Attributes:
        candidates: primitives of every layer.
        skip: the candidate that is no op where the shape stays.
    """

    separator: ClassVar[str] = ","
    candidates: ClassVar[tuple[str, ...]]
    skip: ClassVar[str]

    @property
    @abstractmethod
    def head_width(self) -> int:
        """Channels of the 1x1 convolution before the classifier."""

    @abstractmethod
    def layers(self) -> Iterator[tuple[Shape, Shape, int]]:
        """(input, output, stride) of every layer. Where an input has half the side of the output before it, a
        max pooling lies between them.
        """

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(Slot(f"layer{index}", self.candidates) for index, _ in enumerate(self._layers))

    @cached_property
    def _layers(self) -> tuple[tuple[Shape, Shape, int], ...]:
        return tuple(self.layers())

    @cached_property
    def _pools(self) -> dict[int, OpKey]:
        """Max poolings, by the layer that reads them."""
        layers = enumerate(pairwise(self._layers), start=1)
        sides = {index: (before[1], after[0]) for index, (before, after) in layers if before[1] != after[0]}
        return {index: OpKey("max_pool_2x2", *shapes, 2) for index, shapes in sides.items()}

    def slot_ops(self, slot: int, primitive: str) -> tuple[OpKey, ...]:
        before, after, stride = self._layers[slot]
        if primitive == self.skip and before == after:
            return ()
        return (OpKey(primitive, before, after, stride),)

    def fixed_ops(self) -> tuple[OpKey, ...]:
        layers = self._layers
        first, last = layers[0][0], layers[-1][1]
        features = Shape(self.head_width, last.height, last.width)
        return (
            OpKey("stem_conv_3x3_relu", self.input_shape, first, self.resolution // first.height),
            *self._pools.values(),
            OpKey("conv_1x1_relu", last, features, 1),
            OpKey("pool_linear", features, Shape(self.classes, 1, 1), 1),
        )

    def fastest(self) -> Genotype:
        return Genotype((self.skip,) * len(self.slots))

    def wiring(self, genotype: Genotype) -> tuple[Step, ...]:
        layers = [(slot, self.slot_ops(slot, primitive)) for slot, primitive in enumerate(genotype.choices)]
        return self._chain({slot: Step(f"layers.{slot}.", (), ops[0], slot=slot) for slot, ops in layers if ops})

    def supernet_wiring(self) -> tuple[Step, ...]:
        candidates = [tuple(OpKey(name, *layer) for name in self.candidates) for layer in self._layers]
        return self._chain(
            {slot: Step(f"layers.{slot}.", (), slot=slot, candidates=ops) for slot, ops in enumerate(candidates)}
        )

    def _chain(self, layers: Mapping[int, Step]) -> tuple[Step, ...]:
        """Stem, layers by slot with their poolings, head and classifier; each reads the step before it."""
        stem, *_, head, classifier = self.fixed_ops()
        steps = [Step("stem.", (), stem)]
        for slot in range(len(self._layers)):
            if slot in self._pools:
                steps.append(Step(f"pools.{slot}.", (), self._pools[slot]))
            if slot in layers:
                steps.append(layers[slot])
        steps += [Step("head.", (), head), Step("classifier.", (), classifier)]
        inputs = (INPUT, *(step.name for step in steps))
        return tuple(replace(step, inputs=(name,)) for step, name in zip(steps, inputs, strict=False))
