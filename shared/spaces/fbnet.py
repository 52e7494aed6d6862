"""The FBNet space (Wu et al., 2019): a chain of inverted residual blocks, nine candidates each.

`depth` is the number of layers in each of the five repeated stages (4 in the paper: 1 + 5 x 4 + 1
layers). `channels` scales all widths (16 in the paper). From a side of 96 on the strides are the
paper's. Below 96, the stem and the first reduction keep the side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from shared.errors import InvalidValue
from shared.spaces.op_key import OpKey, Shape
from shared.spaces.space import Genotype, Slot, Space
from shared.spaces.wiring import INPUT, Step

CANDIDATES = (
    "k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip",
)  # fmt: skip
PAPER_CHANNELS = 16
STAGES = ((16, 1, False), (24, 2, True), (32, 2, True), (64, 2, True), (112, 1, True), (184, 2, True), (352, 1, False))
"""(width, stride of the first layer, whether the layer is repeated `depth` times) of each stage."""
HEAD_WIDTH = 1984
SMALLEST_IMAGENET_SIDE = 96


@dataclass(frozen=True)
class FBNet(Space):
    """Stem, a layer per slot, 1x1 convolution, classifier."""

    name: ClassVar[str] = "fbnet"
    resolution: int = 224
    depth: int = 4
    classes: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution % self._reduction():
            raise InvalidValue(
                "resolution", f"{self.resolution} is not a multiple of {self._reduction()}, the total stride"
            )
        if self.channels % 4:
            raise InvalidValue("channels", f"{self.channels} is not a multiple of 4")

    @property
    def slots(self) -> tuple[Slot, ...]:
        return _slots(len(_layers(self)))

    def format(self, genotype: Genotype) -> str:
        return ",".join(genotype.choices)

    def parse(self, text: str) -> Genotype:
        genotype = Genotype(tuple(text.split(",")))
        self.check(genotype)
        return genotype

    def live_slots(self, genotype: Genotype) -> tuple[int, ...]:
        return tuple(range(len(genotype.choices)))

    def canonical(self, genotype: Genotype) -> Genotype:
        return genotype

    def slot_ops(self, slot: int, primitive: str) -> tuple[OpKey, ...]:
        before, after, stride = _layers(self)[slot]
        if primitive == "skip" and before == after:
            return ()
        return (OpKey(primitive, before, after, stride),)

    def fixed_ops(self) -> tuple[OpKey, ...]:
        layers = _layers(self)
        first, last = layers[0][0], layers[-1][1]
        features = Shape(self._width(HEAD_WIDTH), last.height, last.width)
        return (
            OpKey("stem_conv_3x3_relu", self.input_shape, first, self.resolution // first.height),
            OpKey("conv_1x1_relu", last, features, 1),
            OpKey("pool_linear", features, Shape(self.classes, 1, 1), 1),
        )

    def fastest(self) -> Genotype:
        return Genotype(("skip",) * len(self.slots))

    def wiring(self, genotype: Genotype) -> tuple[Step, ...]:
        layers = [(slot, self.slot_ops(slot, primitive)) for slot, primitive in enumerate(genotype.choices)]
        return self._chain([Step(f"layers.{slot}.", (), ops[0], slot=slot) for slot, ops in layers if ops])

    def supernet_wiring(self) -> tuple[Step, ...]:
        candidates = [tuple(OpKey(name, *layer) for name in CANDIDATES) for layer in _layers(self)]
        return self._chain(
            [Step(f"layers.{slot}.", (), slot=slot, candidates=ops) for slot, ops in enumerate(candidates)]
        )

    def _chain(self, layers: list[Step]) -> tuple[Step, ...]:
        """Stem, layers, head and classifier; each reads the step before it."""
        stem, head, classifier = self.fixed_ops()
        steps = [Step("stem.", (), stem), *layers, Step("head.", (), head), Step("classifier.", (), classifier)]
        inputs = (INPUT, *(step.name for step in steps))
        return tuple(replace(step, inputs=(name,)) for step, name in zip(steps, inputs, strict=False))

    def layers(self) -> Iterator[tuple[Shape, Shape, int]]:
        """(input, output, stride) of every layer."""
        side = self.resolution // (2 if self._is_imagenet_sized() else 1)
        before = Shape(self._width(PAPER_CHANNELS), side, side)
        for stage, (width, stride, repeated) in enumerate(STAGES):
            for layer in range(self.depth if repeated else 1):
                step = 1 if layer or (stage == 1 and not self._is_imagenet_sized()) else stride
                after = Shape(self._width(width), before.height // step, before.width // step)
                yield before, after, step
                before = after

    def _is_imagenet_sized(self) -> bool:
        return self.resolution >= SMALLEST_IMAGENET_SIDE

    def _reduction(self) -> int:
        return 32 if self._is_imagenet_sized() else 8

    def _width(self, paper_width: int) -> int:
        """The paper's width scaled to a multiple of 4, as grouped and NCHWc kernels need."""
        return max(4, round(paper_width * self.channels / PAPER_CHANNELS / 4) * 4)


@lru_cache(maxsize=64)
def _layers(space: FBNet) -> tuple[tuple[Shape, Shape, int], ...]:
    return tuple(space.layers())


@lru_cache(maxsize=64)
def _slots(layers: int) -> tuple[Slot, ...]:
    return tuple(Slot(f"layer{index}", CANDIDATES) for index in range(layers))
