"""Slices and concatenations: numbers and gradients of torch's own, in channels-last throughout."""

from __future__ import annotations

import random

import pytest
import torch

from search.supernet import Network
from search.supernet.channels_last import concatenate, every_second, with_zeros_between
from search.supernet.primitives import FactorizedReduction, SeparableStep
from shared.spaces import make_space

CHANNELS_LAST = torch.channels_last


def features(side: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    drawn = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side)).to(dtype)
    return drawn.contiguous(memory_format=CHANNELS_LAST).requires_grad_()


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("first", [0, 1])
def test_as_a_slice_with_its_gradients(side: int, first: int) -> None:
    x = features(side)
    read = every_second(x, first)
    assert torch.equal(read, x[:, :, first::2, first::2])
    assert torch.equal(every_second(with_zeros_between(read, x.shape, first), first), read)
    assert torch.autograd.gradcheck(lambda one: every_second(one, first), x)
    assert torch.autograd.gradgradcheck(lambda one: every_second(one, first) ** 2, x)


def test_as_a_concatenation_with_its_gradients() -> None:
    parts = [features(5), features(5)]
    assert torch.equal(concatenate(parts), torch.cat(parts, dim=1))
    assert torch.autograd.gradcheck(lambda *all_: concatenate(all_), parts)
    assert torch.autograd.gradgradcheck(lambda *all_: concatenate(all_) ** 2, parts)


@pytest.mark.parametrize("first", [0, 1])
def test_features_and_gradients_stay_in_channels_last(first: int) -> None:
    x = features(8, torch.bfloat16)
    read = every_second(x, first)
    (gradient,) = torch.autograd.grad(read.square().sum(), x)
    assert read.is_contiguous(memory_format=CHANNELS_LAST)
    assert gradient.is_contiguous(memory_format=CHANNELS_LAST)
    assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_relu_of_a_darts_cell_gets_its_gradient_in_two_layouts(seed: int) -> None:
    """What made a step slow: one slice in a reduction, and all before it got gradients in torch's default layout."""
    space = make_space("darts", resolution=16, channels=8, depth=3)
    network = Network(space, space.sample(random.Random(seed))).train()
    strides_of_gradients = []

    def keep(gradient: torch.Tensor) -> None:
        strides_of_gradients.append(gradient.is_contiguous(memory_format=CHANNELS_LAST))

    def watch(x: torch.Tensor) -> None:
        x.register_hook(keep)

    for module in network.modules():
        if isinstance(module, SeparableStep | FactorizedReduction):
            module.register_forward_pre_hook(lambda _module, inputs: watch(inputs[0]))
    network(torch.randn(2, 3, 16, 16).contiguous(memory_format=CHANNELS_LAST)).sum().backward()
    assert len(strides_of_gradients) > 10
    assert all(strides_of_gradients)
