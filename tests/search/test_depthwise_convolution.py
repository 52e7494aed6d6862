"""The depthwise convolution with fast gradients against torch's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from search.supernet.depthwise_convolution import DepthwiseConv2d, convolve_depthwise

CHANNELS = 6


@pytest.mark.parametrize("side", [8, 7])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_output_and_both_gradients_are_those_of_torch(kernel, stride, dilation, side):
    ours, theirs = _pair(kernel, stride, dilation)
    fast = _results(lambda x: convolve_depthwise(x, ours.weight, stride, dilation), ours.weight, side)
    found, expected = fast, _results(theirs, theirs.weight, side)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_under_autocast_it_computes_in_bfloat16_and_the_weights_gradient_is_fp32():
    ours, theirs = (op.float() for op in _pair(5, 1, 2))
    x = torch.randn(2, CHANNELS, 8, 8)
    results = []
    for op in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16):
            y = op(x)
        (gradient,) = torch.autograd.grad(y.float().square().sum(), [op.weight])
        assert y.dtype == torch.bfloat16
        assert gradient.dtype == torch.float32
        results.append(gradient)
    torch.testing.assert_close(*results, rtol=0.02, atol=0.2)


def test_in_fp32_the_gradient_is_torchs_own_which_is_faster_there():
    ours, _ = _pair(5, 1, 2)
    y = ours.float()(torch.randn(1, CHANNELS, 8, 8, requires_grad=True))
    assert "Convolution" in type(y.grad_fn).__name__


def _pair(kernel: int, stride: int, dilation: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    ours = DepthwiseConv2d(CHANNELS, kernel, stride, dilation).double()
    padding = dilation * (kernel - 1) // 2
    theirs = nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, dilation, CHANNELS, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def _results(op: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor, side: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, CHANNELS, side, side, generator=random, dtype=torch.double)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = op(x)
    towards = torch.randn(y.shape, generator=random, dtype=torch.double)
    return [y, *torch.autograd.grad(y, [x, weight], towards)]
