"""Random crops and mirrored images, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, generator: torch.Generator, padding: int, mirror: bool) -> Tensor:
    """Shift each image by up to `padding` pixels, black coming in at the edges, and mirror every second one.

    Args:
        images: (N, channels, side, side), any type, before normalisation: 0 is black.
        generator: draws shifts and mirrors.
        padding: largest shift, pixels; the usual 4 at 32 pixels, fewer at lower resolutions.
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
