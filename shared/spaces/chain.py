"""A chain of layers with a choice each, between a stem and a head: `fbnet`, `mobile`, `nas-bench-macro`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from shared.spaces.op_key import OpKey, Shape
from shared.spaces.space import Genotype, IndependentSlots, Slot
from shared.spaces.wiring import INPUT, Step


@dataclass(frozen=True)
class Chain(IndependentSlots):
    """Stem, a layer per slot, 1x1 convolution, classifier.

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
        """(input, output, stride) of every layer."""

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(Slot(f"layer{index}", self.candidates) for index, _ in enumerate(self._layers))

    @cached_property
    def _layers(self) -> tuple[tuple[Shape, Shape, int], ...]:
        return tuple(self.layers())

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
            OpKey("conv_1x1_relu", last, features, 1),
            OpKey("pool_linear", features, Shape(self.classes, 1, 1), 1),
        )

    def fastest(self) -> Genotype:
        return Genotype((self.skip,) * len(self.slots))

    def wiring(self, genotype: Genotype) -> tuple[Step, ...]:
        layers = [(slot, self.slot_ops(slot, primitive)) for slot, primitive in enumerate(genotype.choices)]
        return self._chain([Step(f"layers.{slot}.", (), ops[0], slot=slot) for slot, ops in layers if ops])

    def supernet_wiring(self) -> tuple[Step, ...]:
        candidates = [tuple(OpKey(name, *layer) for name in self.candidates) for layer in self._layers]
        return self._chain(
            [Step(f"layers.{slot}.", (), slot=slot, candidates=ops) for slot, ops in enumerate(candidates)]
        )

    def _chain(self, layers: list[Step]) -> tuple[Step, ...]:
        """Stem, layers, head and classifier; each reads the step before it."""
        stem, head, classifier = self.fixed_ops()
        steps = [Step("stem.", (), stem), *layers, Step("head.", (), head), Step("classifier.", (), classifier)]
        inputs = (INPUT, *(step.name for step in steps))
        return tuple(replace(step, inputs=(name,)) for step, name in zip(steps, inputs, strict=False))
