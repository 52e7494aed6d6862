"""Ladders of four families by width and depth, in the form that they usually have for CIFAR-10.

The stem keeps the 32 pixels, and later stages halve them. Weights are random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.foreign.convolutional import Shuffled, inverted, residual
from benchmarks.foreign.layers import convolution, head
from search.own_model.onnx_export import to_onnx

SIDE, CLASSES, IMAGE_CHANNELS = 32, 10, 3


def resnet(width: float, depth: float) -> nn.Module:
    """He et al., 2016, section 4.2: three stages of `depth` blocks; 16 and 3 are ResNet-20."""
    layers: list[nn.Module] = [convolution(IMAGE_CHANNELS, int(width), activation=nn.ReLU())]
    before = int(width)
    for stage in range(3):
        for block in range(int(depth)):
            after = int(width) << stage
            layers.append(residual(before, after, 2 if stage and not block else 1))
            before = after
    return nn.Sequential(*layers, head(before, CLASSES))


def vgg(width: float, depth: float) -> nn.Module:
    """Simonyan and Zisserman, 2015, with batch norm: four stages of `depth` 3 x 3 convolutions, poolings between."""
    layers: list[nn.Module] = []
    before = IMAGE_CHANNELS
    for stage in range(4):
        if stage:
            layers.append(nn.MaxPool2d(2))
        for _ in range(int(depth)):
            after = int(width) << stage
            layers.append(convolution(before, after, activation=nn.ReLU()))
            before = after
    return nn.Sequential(*layers, head(before, CLASSES))


def mobilenet_v2(width: float, depth: float, large_images: bool = False, classes: int = CLASSES) -> nn.Module:
    """Sandler et al., 2018: `width` scales all channels, `depth` the blocks per stage; 1 and 1 are the paper's.

    Args:
        large_images: take the paper's strides in the stem and the second stage, too.
    """

    def scaled(channels: int) -> int:
        return max(8, round(channels * width / 8) * 8)

    early = 2 if large_images else 1
    before = scaled(32)
    layers: list[nn.Module] = [convolution(IMAGE_CHANNELS, before, stride=early, activation=nn.ReLU6())]
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, early),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expansion, channels, blocks, stride in stages:
        for block in range(math.ceil(blocks * depth)):
            after = scaled(channels)
            layers.append(inverted(before, after, 1 if block else stride, expansion, 3, nn.ReLU6()))
            before = after
    last = scaled(1280)
    return nn.Sequential(*layers, convolution(before, last, 1, activation=nn.ReLU6()), head(last, classes))


def shufflenet_v2(width: float, depth: float) -> nn.Module:
    """Ma et al., 2018: three stages from `width` channels, 4, 8 and 4 times `depth` blocks; the paper's: 116, 1."""
    before = 24
    layers: list[nn.Module] = [convolution(IMAGE_CHANNELS, before, activation=nn.ReLU())]
    for stage, blocks in enumerate((4, 8, 4)):
        for block in range(math.ceil(blocks * depth)):
            after = int(width) << stage
            layers.append(Shuffled(before, after, 1 if block else 2))
            before = after
    last = round(1024 * width / 116)
    return nn.Sequential(*layers, convolution(before, last, 1, activation=nn.ReLU()), head(last, CLASSES))


FAMILIES: Mapping[str, Callable[[float, float], nn.Module]] = {
    build.__name__: build for build in (resnet, vgg, mobilenet_v2, shufflenet_v2)
}


@dataclass(frozen=True)
class Rung:
    """A network made by hand."""

    family: str
    width: float
    depth: float

    @property
    def name(self) -> str:
        return f"{self.family}-w{self.width:g}-d{self.depth:g}"

    def build(self) -> nn.Module:
        """The network; weights are drawn from torch's own generator."""
        return FAMILIES[self.family](self.width, self.depth)

    def export(self) -> bytes:
        """ONNX bytes for one image."""
        return to_onnx(self.build(), torch.zeros(1, IMAGE_CHANNELS, SIDE, SIDE))


SIZES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "resnet": ((8, 1), (12, 1), (16, 1), (16, 2), (16, 3), (24, 3), (32, 3)),
    "vgg": ((8, 1), (12, 1), (16, 1), (16, 2), (24, 2), (32, 2), (40, 2)),
    "mobilenet_v2": ((0.25, 0.25), (0.25, 0.5), (0.25, 1), (0.35, 1), (0.5, 1), (0.75, 1), (1, 1)),
    "shufflenet_v2": ((24, 0.25), (24, 0.5), (48, 0.5), (48, 1), (76, 1), (116, 1)),
}
"""Width and depth of each rung."""
LADDERS = tuple(Rung(family, *size) for family, sizes in SIZES.items() for size in sizes)
