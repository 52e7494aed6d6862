"""From stored images to a network's input: for the search, the exported file and the device.

For training also random crops, mirrored images and cutout, for a whole batch at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from shared.errors import InvalidValue

LARGEST_PADDING = 8
"""Pixels; images that are smaller by at most so many are padded, not resized."""


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 images become a network's input.

    Attributes:
        size: side of the network's input, pixels.
        mean, std: per input channel, of pixels scaled to [0, 1].
        class_names: in the order of the labels.
        before: steps before the images were stored, in words.
        scale: what stored values are divided by first; 1 leaves them as they are.
    """

    size: int
    channels: int
    source_size: int
    source_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    before: str = ""
    scale: int = 255

    def __post_init__(self) -> None:
        if self.source_channels not in (1, self.channels):
            raise InvalidValue("channels", f"{self.source_channels} image channels cannot become {self.channels}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise InvalidValue("preprocessing", f"mean and std are not given for {self.channels} channels")
        if min(self.std) <= 0:
            raise InvalidValue("std", f"{min(self.std)} is not above 0")

    def apply(self, images: Tensor) -> Tensor:
        """uint8 (N, source channels, source size, source size) to float32 of the network's size."""
        return self.normalise(self.resize(images.float()))

    def resize(self, images: Tensor) -> Tensor:
        """Float images of the stored size to the network's; channels and range as stored."""
        missing = self.size - self.source_size
        if missing == 0:
            return images
        if 0 < missing <= LARGEST_PADDING:
            before = missing // 2
            return F.pad(images, [before, missing - before] * 2)
        size = [self.size, self.size]
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=missing < 0)

    def normalise(self, images: Tensor) -> Tensor:
        """Float images with values as stored to the network's channels and statistics."""
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images.expand(-1, self.channels, -1, -1) / self.scale - mean) / std

    def describe(self) -> dict[str, str]:
        """The input, as metadata of an exported file."""
        return {
            "input_layout": "NCHW",
            "input_size": str(self.size),
            "input_channels": str(self.channels),
            "input_resize": self._resize_rule(),
            "input_range": "pixels 0 to 255, divided by 255, minus mean, over std, per channel"
            if self.scale == 255
            else self.before,
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
            "class_names": json.dumps(self.class_names),
        }

    def _resize_rule(self) -> str:
        stored = f"{self.source_size} x {self.source_size}"
        missing = self.size - self.source_size
        if missing == 0:
            rule = f"images of {stored}, not resized"
        elif 0 < missing <= LARGEST_PADDING:
            before = missing // 2
            rule = f"images of {stored}, {before} rows and columns of 0 before and {missing - before} after"
        else:
            rule = f"images of {stored}, resized bilinearly" + (" with antialiasing" if missing < 0 else "")
        rule = f"{self.before}: {rule}" if self.before else rule
        return rule + ("" if self.source_channels == self.channels else f", grey repeated to {self.channels} channels")


def at_resolution(images: Tensor, resolution: int) -> Tensor:
    """Average-pool square images to a side that divides theirs, for the supernet.

    Raises:
        InvalidValue: the side is not a multiple of the resolution.
    """
    side = images.shape[-1]
    if side == resolution:
        return images
    if resolution < 1 or side % resolution:
        raise InvalidValue("search resolution", f"{resolution} does not divide the image side {side}")
    return F.avg_pool2d(images, side // resolution)


def augment(images: Tensor, generator: torch.Generator, padding: int, mirror: bool) -> Tensor:
    """Shift each image by up to `padding` pixels over black, and mirror half of the images.

    Args:
        images: (N, channels, side, side), any type, before normalisation: 0 is black.
        generator: draws shifts and mirrors.
        padding: largest shift, pixels; usually an eighth of the side.
        mirror: whether a mirrored image keeps its class.

    Returns:
        A tensor of the same shape and type, channels last in memory.
    """
    count, _, height, width = images.shape
    padded = F.pad(images, [padding] * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    rows, columns = top + torch.arange(height), left + torch.arange(width)  # (N, height), (N, width)
    flipped = torch.rand((count, 1), generator=generator) < (0.5 if mirror else 0.0)
    columns = torch.where(flipped, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, generator: torch.Generator, side: int) -> Tensor:
    """Set a square of each image to 0, centred anywhere in the image (DeVries and Taylor, 2017).

    Args:
        images: (N, channels, height, width), normalised: 0 is the mean.
        generator: draws the centres.
        side: of the square, pixels; 0 changes nothing.

    Returns:
        A tensor of the same shape and memory format.
    """
    if side == 0:
        return images
    count, _, height, width = images.shape
    rows, columns = (
        _near(torch.randint(0, length, (count, 1), generator=generator), length, side) for length in (height, width)
    )
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _near(centres: Tensor, length: int, side: int) -> Tensor:
    """(N, length): whether a position lies within the `side` around each centre."""
    start = centres - side // 2
    positions = torch.arange(length)
    return (positions >= start) & (positions < start + side)
