"""The FBNet space (Wu et al., 2019): a chain of inverted residual blocks, nine candidates each.

`depth` is the number of layers in each of the five repeated stages (4 in the paper: 1 + 5 x 4 + 1
layers). `channels` scales all widths (16 in the paper). From a side of 96 on the strides are the
paper's. Below 96, the stem and the first reduction keep the side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from shared.errors import InvalidValue
from shared.spaces.chain import Chain
from shared.spaces.op_key import Shape

PAPER_CHANNELS = 16
STAGES = ((16, 1, False), (24, 2, True), (32, 2, True), (64, 2, True), (112, 1, True), (184, 2, True), (352, 1, False))
"""(width, stride of the first layer, whether the layer is repeated `depth` times) of each stage."""
HEAD_WIDTH = 1984
SMALLEST_IMAGENET_SIDE = 96


@dataclass(frozen=True)
class FBNet(Chain):
    """Nine candidates per layer."""

    name: ClassVar[str] = "fbnet"
    skip: ClassVar[str] = "skip"
    candidates: ClassVar[tuple[str, ...]] = (
        "k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip",
    )  # fmt: skip
    resolution: int = 224
    depth: int = 4
    classes: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels % 4:
            raise InvalidValue("channels", f"{self.channels} is not a multiple of 4")

    @property
    def total_stride(self) -> int:
        return 32 if self._is_imagenet_sized() else 8

    @property
    def head_width(self) -> int:
        return self._width(HEAD_WIDTH)

    def layers(self) -> Iterator[tuple[Shape, Shape, int]]:
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

    def _width(self, paper_width: int) -> int:
        """The paper's width scaled to a multiple of 4, as grouped and NCHWc kernels need."""
        return max(4, round(paper_width * self.channels / PAPER_CHANNELS / 4) * 4)
