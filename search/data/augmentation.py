"""Random crops, mirrored images and cutout, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
