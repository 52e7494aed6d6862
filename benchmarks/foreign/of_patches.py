"""Classifiers that see an image as patches: a mixer and transformers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from benchmarks.foreign.convolutional import inverted
from benchmarks.foreign.layers import CLASSES, ChannelsLast, Sum, convolution, head, perceptron


class Patches(nn.Module):
    """An image as (batch, patches, channels), with or without a learned place for each."""

    def __init__(self, size: int, channels: int, patches: int = 0) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, channels, size, size)
        self.place = nn.Parameter(torch.randn(1, patches, channels) * 0.02) if patches else None

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        return patches if self.place is None else patches + self.place


class Transposed(nn.Module):
    """Layers over the second dimension."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.transpose(1, 2)).transpose(1, 2)


class Mean(nn.Module):
    """Mean over the patches, and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mean(1))


def mlp_mixer() -> nn.Module:
    """Tolstikhin et al., 2021: perceptrons over patches, then over channels."""
    layers: list[nn.Module] = [Patches(8, 128)]
    for _ in range(4):
        layers.append(Sum(nn.Sequential(nn.LayerNorm(128), Transposed(perceptron(144, 96)))))
        layers.append(Sum(nn.Sequential(nn.LayerNorm(128), perceptron(128, 384))))
    return nn.Sequential(*layers, nn.LayerNorm(128), Mean(128))


class Attention(nn.Module):
    """Attention of several heads (Vaswani et al., 2017), written out; with a bias per pair of places for windows."""

    def __init__(self, channels: int, heads: int, places: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.randn(1, heads, places, places) * 0.02) if places else None

    def forward(self, x: Tensor) -> Tensor:
        batch, places, channels = x.shape
        qkv = self.qkv(x).reshape(batch, places, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = q @ k.transpose(-2, -1) / math.sqrt(channels // self.heads)
        scores = scores if self.bias is None else scores + self.bias
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, places, channels))


def transformer(channels: int, heads: int, places: int = 0) -> list[nn.Module]:
    """A block of a transformer, norms first."""
    attention = Sum(nn.Sequential(nn.LayerNorm(channels), Attention(channels, heads, places)))
    return [attention, Sum(nn.Sequential(nn.LayerNorm(channels), perceptron(channels, 4 * channels)))]


def vit() -> nn.Module:
    """Dosovitskiy et al., 2021, with the mean of the patches in the place of a class token."""
    blocks = [layer for _ in range(4) for layer in transformer(128, 4)]
    return nn.Sequential(Patches(8, 128, 144), *blocks, nn.LayerNorm(128), Mean(128))


class Windows(nn.Module):
    """Layers over windows of a map with the channels last, shifted or not (Liu et al., 2021)."""

    def __init__(self, side: int, shift: int, *layers: nn.Module) -> None:
        super().__init__()
        self.side, self.shift, self.layers = side, shift, nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        side = self.side
        x = torch.roll(x, (-self.shift, -self.shift), (1, 2)) if self.shift else x
        x = x.view(batch, height // side, side, width // side, side, channels).permute(0, 1, 3, 2, 4, 5)
        x = self.layers(x.reshape(-1, side * side, channels))
        x = x.view(batch, height // side, width // side, side, side, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, height, width, channels)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class Merged(nn.Module):
    """Four neighbours become one (patch merging)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.layer(self.norm(torch.cat(parts, -1)))


def swin() -> nn.Module:
    """Liu et al., 2021: attention in windows, shifted every second time."""
    layers: list[nn.Module] = []
    for channels, heads in ((48, 3), (96, 6)):
        for shift in (0, 2):
            layers += [Windows(4, shift, *transformer(channels, heads, 16))]
        layers.append(Merged(channels))
    stem = nn.Conv2d(3, 48, 4, 4)
    return nn.Sequential(stem, ChannelsLast(*layers, nn.LayerNorm(192)), head(192))


class Unfolded(nn.Module):
    """A transformer over the patches of a map, between convolutions (Mehta and Rastegari, 2022)."""

    def __init__(self, channels: int, inner: int, heads: int) -> None:
        super().__init__()
        self.before = nn.Sequential(
            convolution(channels, channels, activation=nn.SiLU()), nn.Conv2d(channels, inner, 1)
        )
        self.blocks = nn.Sequential(*transformer(inner, heads), *transformer(inner, heads), nn.LayerNorm(inner))
        self.after = convolution(inner, channels, 1, activation=nn.SiLU())
        self.joined = convolution(2 * channels, channels, activation=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        batch, channels, height, width = y.shape
        y = y.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 2, 4, 1)
        y = self.blocks(y.reshape(batch * 4, height * width // 4, channels))
        y = y.reshape(batch, 2, 2, height // 2, width // 2, channels).permute(0, 5, 3, 1, 4, 2)
        return self.joined(torch.cat([x, self.after(y.reshape(batch, channels, height, width))], 1))


def mobilevit() -> nn.Module:
    """Mehta and Rastegari, 2022."""
    blocks = [inverted(16, 24, 2, 4, 3, nn.SiLU()), inverted(24, 32, 2, 4, 3, nn.SiLU()), Unfolded(32, 48, 4)]
    blocks += [inverted(32, 48, 2, 4, 3, nn.SiLU()), Unfolded(48, 64, 4), convolution(48, 160, 1, activation=nn.SiLU())]
    return nn.Sequential(convolution(3, 16, 3, 2, activation=nn.SiLU()), *blocks, head(160))
