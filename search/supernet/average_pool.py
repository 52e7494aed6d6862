"""The 3x3 average of stride 1 that counts no padding, with a gradient that is an average, too.

The average is D K x: sums over 3 x 3 positions (K), each divided by how many of them lie inside the map (D). K is
symmetric, so the gradient is K D g, which the forward kernel computes. torch's own backward kernel takes twice as long
in bfloat16, and pools were an eighth of a path's time.
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
    """Average over the neighbours inside the map; shape (batch, channels, height, width), type and layout as x."""
    return _Average.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, WINDOW, 1, WINDOW // 2, count_include_pad=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        shares = _shares(*gradient.shape[2:], gradient.dtype, gradient.device)
        return F.avg_pool2d(gradient * shares, WINDOW, 1, WINDOW // 2)  # divides every sum by 9, padding or not


@lru_cache(maxsize=32)
def _shares(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """9 over the number of neighbours inside the map, (1, 1, height, width)."""
    inside = F.avg_pool2d(torch.ones(1, 1, height, width, device=device), WINDOW, 1, WINDOW // 2)
    return (1 / inside).to(dtype)
