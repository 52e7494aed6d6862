"""The 3x3 average of stride 1 that counts no padding, and its gradient, as one depthwise convolution each.

The average is D K x: the sum over 3 x 3 positions, each then divided by how many of them lie inside. K is symmetric, so
the gradient is K D g. torch's own kernels take 2 (fp32) to 3 times (bfloat16, most of it backwards) as long on maps of
16 x 16, where pools were an eighth of a path's time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

WINDOW = 3


def average_3x3(x: Tensor) -> Tensor:
    """Average over the neighbours inside the map; shape (batch, channels, height, width), type and layout as x.

    The sums are in fp32 whatever the type: a convolution in bfloat16 is slower for so few products.
    """
    return _Average.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (_sum(x.float()) * _inside(*x.shape[2:], x.device)).to(x.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient * _inside(*gradient.shape[2:], gradient.device)).to(gradient.dtype)


def _sum(x: Tensor) -> Tensor:
    ones = torch.ones(x.shape[1], 1, WINDOW, WINDOW, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, ones, padding=WINDOW // 2, groups=x.shape[1])


@lru_cache(maxsize=32)
def _inside(height: int, width: int, device: torch.device) -> Tensor:
    """One over the number of neighbours inside the map, (1, 1, height, width)."""
    return 1 / F.conv2d(
        torch.ones(1, 1, height, width, device=device), torch.ones(1, 1, WINDOW, WINDOW, device=device), padding=1
    )
