"""Slicing and concatenation whose gradients stay in channels-last.

torch's gradient of a slice has the default layout; gradients of a concatenation are views with
gaps. Earlier layers of a channels-last network then work on two layouts at once: the gradient of a
ReLU takes six times as long, that of a batch norm nine times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CHANNELS_LAST = torch.channels_last


def every_second(x: Tensor, first: int = 0) -> Tensor:
    """Every second pixel of every second row: (N, C, ceil((H - first) / 2), ceil((W - first) / 2)).

    Args:
        x: features (N, C, H, W).
        first: row and column to begin with, 0 or 1.
    """
    return _Gather.apply(x, first)  # type: ignore[no-any-return, no-untyped-call]


def with_zeros_between(x: Tensor, shape: torch.Size, first: int = 0) -> Tensor:
    """Inverse of `every_second`: x with zeros between, of a shape (N, C, H, W)."""
    return _Scatter.apply(x, shape, first)  # type: ignore[no-any-return, no-untyped-call]


def concatenate(features: Sequence[Tensor]) -> Tensor:
    """Concatenate features (N, C_i, H, W) along the channels: (N, sum of C_i, H, W)."""
    return _Concatenate.apply(*features)  # type: ignore[no-any-return, no-untyped-call]


class _Concatenate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *features: Tensor) -> Tensor:
        ctx.channels = [x.shape[1] for x in features]
        return torch.cat(features, dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.contiguous(memory_format=CHANNELS_LAST) for part in gradient.split(ctx.channels, dim=1))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: int) -> Tensor:
        ctx.shape, ctx.first = x.shape, first
        return x[:, :, first::2, first::2].contiguous(memory_format=CHANNELS_LAST)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return with_zeros_between(gradient, ctx.shape, ctx.first), None


class _Scatter(torch.autograd.Function):
    """The gradient of `_Gather`, and the reverse: DARTS' second order goes through both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: torch.Size, first: int) -> Tensor:
        ctx.first = first
        whole = torch.empty(shape, dtype=x.dtype, memory_format=CHANNELS_LAST).zero_()
        whole[:, :, first::2, first::2] = x
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return every_second(gradient, ctx.first), None, None
