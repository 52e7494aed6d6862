"""A chain in which a budget buys depth, width and the kind of each layer.

Four stages. A max pooling before each but the first halves the side, as in a VGG, and the stage's
first layer doubles the channels. A layer is nothing, a plain convolution, a residual block, or an
inverted residual (Sandler et al., 2018). Its width is chosen inside it: a residual block works in
all channels of the stage or in half of them, an inverted residual in three or six times as many.
Between layers the width is that of the stage, so a layer costs the same whatever its neighbours
choose. Costs of slots add up exactly, and networks for a budget are decoded exactly. Widths chosen
between layers would tie a price to two choices.

A stage may be empty but for a projection to its channels: so a budget also buys the side at which
a network works. `channels` scales all widths. From a side of 64 on the stem halves the
side too, and 64 pixels cost about what 32 do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from shared.spaces.chain import Chain
from shared.spaces.op_key import Shape

STAGES = 4
HALVED_BY_STEM = 64
"""Smallest side of an image whose stem has stride 2."""


@dataclass(frozen=True)
class Mobile(Chain):
    """Eight candidates per layer, `depth` layers per stage."""

    name: ClassVar[str] = "mobile"
    skip: ClassVar[str] = "skip"
    candidates: ClassVar[tuple[str, ...]] = (
        "skip", "conv_3x3_relu", "residual_half", "residual_full", "k3_e3", "k3_e6", "k5_e3", "k5_e6",
    )  # fmt: skip
    depth: int = 4

    @property
    def total_stride(self) -> int:
        return self._stem_stride << (STAGES - 1)

    @property
    def head_width(self) -> int:
        return self.channels << STAGES

    def layers(self) -> Iterator[tuple[Shape, Shape, int]]:
        channels = self.channels
        for stage in range(STAGES):
            side = self.resolution // self._stem_stride >> stage
            after = Shape(self.channels << stage, side, side)
            for _ in range(self.depth):
                yield Shape(channels, side, side), after, 1
                channels = after.channels

    @property
    def _stem_stride(self) -> int:
        return 2 if self.resolution >= HALVED_BY_STEM else 1
