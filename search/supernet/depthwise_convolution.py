"""Depthwise convolution with fast bfloat16 gradients on a CPU.

oneDNN has fast gradients for 3x3 depthwise convolutions of stride 1 without dilation only. In
bfloat16, 48 images of 16 channels and 28 x 28 pixels take 0.2 ms forwards and 7 to 13 ms backwards
through a 5x5 or dilated convolution; 32 images of 32 channels and 32 x 32 pixels take 10 ms through
a 3x3 of stride 2. Here fast operations give the same numbers, up to the order of summation:

    input gradient     a convolution with the rotated kernel; a stride puts zeros between pixels
    5x5                its weight gradient is assembled from four overlapping 3x3 windows
    dilation 2         a dense convolution on each of the four grids of every second pixel
    and stride 2       only the first of these grids is read

fp32 keeps torch's own gradients: these operations are slower there (18 to 42 ms against 2 to 19).
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from search.supernet.channels_last import every_second, with_zeros_between

WINDOW = 3
"""Side of the kernels whose weight gradient is fast."""


class DepthwiseConv2d(nn.Conv2d):
    """Equal to `nn.Conv2d` with a group per channel, "same" padding and no bias."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        computed_in = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        ours = kernel in (3, 5) and stride in (1, 2) and dilation in (1, 2) and (kernel, stride, dilation) != (3, 1, 1)
        if not ours or computed_in != torch.bfloat16 or x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        # autocast does not cast a custom function
        return convolve_depthwise(x.to(computed_in), self.weight.to(computed_in), stride, dilation)


def convolve_depthwise(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Output (N, C, H', W') for x (N, C, H, W) and kernels (C, 1, K, K). No second gradient."""
    if stride == dilation == 2:
        x, stride, dilation = every_second(x), 1, 1
    return _Depthwise.apply(x, weight, stride, dilation)  # type: ignore[no-any-return, no-untyped-call]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return _convolve(x, weight, stride, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        arguments = gradient, x, weight, ctx.stride, ctx.dilation
        of_x = input_gradient(*arguments) if ctx.needs_input_grad[0] else None
        of_weight = weight_gradient(*arguments) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


def input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Of the input (N, C, H, W), from that of the output."""
    if stride == 2:  # with zeros between the pixels the stride is 1
        gradient = with_zeros_between(gradient, x.shape)
    return _convolve(gradient, weight.flip(2, 3), 1, dilation)


def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Of the kernels (C, 1, K, K), from that of the output."""
    if dilation == 2 and stride == 1:
        return weight_gradient(_four_grids(gradient), _four_grids(x), weight, 1, 1)
    if weight.shape[-1] == WINDOW:
        return _of_window(gradient, x, weight, stride, padding=1)
    return _from_windows(gradient, x, weight, stride)


def _from_windows(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Each 3x3 window of the kernel reads the input at its own offset."""
    kernel, (height, width) = weight.shape[-1], gradient.shape[-2:]
    padded = F.pad(x, [kernel // 2] * 4)
    window, whole = weight[..., :WINDOW, :WINDOW], torch.empty_like(weight)
    rows, columns = stride * (height - 1) + WINDOW, stride * (width - 1) + WINDOW
    for top, left in product((0, kernel - WINDOW), repeat=2):
        seen = padded[:, :, top : top + rows, left : left + columns].contiguous(memory_format=torch.channels_last)
        part = _of_window(gradient, seen, window.contiguous(), stride, padding=0)
        whole[..., top : top + WINDOW, left : left + WINDOW] = part
    return whole


def _of_window(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """torch's own weight gradient of a 3x3 kernel without dilation."""
    sides = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0]
    backward = torch.ops.aten.convolution_backward
    found: Tensor = backward(gradient, x, weight, None, *sides, len(weight), [False, True, False])[1]
    return found


def _four_grids(x: Tensor) -> Tensor:
    """The four grids of every second pixel, stacked in the batch; zeros make the sides even."""
    x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
    grids = [x[:, :, top::2, left::2] for top, left in product((0, 1), repeat=2)]
    return torch.cat(grids).contiguous(memory_format=torch.channels_last)


def _convolve(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] - 1) // 2
    return F.conv2d(x, weight, None, stride, padding, dilation, len(weight))
