"""What is no classifier of images: segmentation, detection, sequences and words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.foreign.layers import CLASSES, Cat, Sum, convolution


class UNet(nn.Module):
    """Ronneberger et al., 2015: down, up again by transposed convolutions, and across."""

    def __init__(self) -> None:
        super().__init__()
        sides = (16, 32, 64, 96)
        self.down = nn.ModuleList(self._twice(a, b) for a, b in zip((3, *sides), sides, strict=False))
        pairs = list(zip(sides[:0:-1], sides[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.across = nn.ModuleList(self._twice(2 * b, b) for _, b in pairs)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for index, layer in enumerate(self.down):
            x = layer(F.max_pool2d(x, 2) if index else x)
            kept.append(x)
        for up, across, beside in zip(self.up, self.across, kept[-2::-1], strict=True):
            x = across(torch.cat([beside, up(x)], 1))
        return self.last(x)

    @staticmethod
    def _twice(before: int, after: int) -> nn.Module:
        return nn.Sequential(
            convolution(before, after, activation=nn.ReLU()), convolution(after, after, activation=nn.ReLU())
        )


class Yolo(nn.Module):
    """A detector as of the YOLO family (Redmon and Farhadi, 2018): a backbone, a neck upwards, heads at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(self._down(3, 16), self._down(16, 32), self._split(32), self._down(32, 64))
        self.late = nn.Sequential(self._down(64, 128), self._split(128))
        self.pool = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9))
        self.squeezed = convolution(3 * 128, 64, 1, activation=nn.SiLU())
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.neck = nn.Sequential(convolution(128, 64, 1, activation=nn.SiLU()), self._split(64))
        self.heads = nn.ModuleList(nn.Conv2d(64, 3 * (5 + 20), 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        early = self.early(x)
        late = self.late(early)
        late = self.squeezed(torch.cat([late, *(pool(late) for pool in self.pool)], 1))
        maps = (self.neck(torch.cat([self.up(late), early], 1)), late)
        found = [self._decoded(layer(x)) for layer, x in zip(self.heads, maps, strict=True)]
        return torch.cat(found, 1)

    @staticmethod
    def _decoded(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        x = x.view(batch, 3, 25, height, width).permute(0, 1, 3, 4, 2).reshape(batch, -1, 25)
        place, size, scores = x.split((2, 2, 21), -1)
        return torch.cat([place.sigmoid() * 2, size.exp(), scores.sigmoid()], -1)

    @staticmethod
    def _down(before: int, after: int) -> nn.Module:
        return convolution(before, after, 3, 2, activation=nn.SiLU())

    @staticmethod
    def _split(channels: int) -> nn.Module:
        half = channels // 2
        inner = nn.Sequential(
            convolution(half, half, activation=nn.SiLU()), convolution(half, half, activation=nn.SiLU())
        )
        left = convolution(channels, half, 1, activation=nn.SiLU())
        right = nn.Sequential(convolution(channels, half, 1, activation=nn.SiLU()), Sum(inner))
        return nn.Sequential(Cat(left, right), convolution(channels, channels, 1, activation=nn.SiLU()))


def convolution_1d() -> nn.Module:
    """Bai et al., 2018: dilated convolutions over a sequence, beside shortcuts."""

    def block(before: int, after: int, dilation: int) -> nn.Module:
        layers: list[nn.Module] = []
        for channels in (before, after):
            layers += [
                nn.Conv1d(channels, after, 3, padding=dilation, dilation=dilation),
                nn.BatchNorm1d(after),
                nn.ReLU(),
            ]
        return Sum(nn.Sequential(*layers), None if before == after else nn.Conv1d(before, after, 1), nn.ReLU())

    blocks = [block(12, 32, 1), block(32, 32, 2), block(32, 64, 4), block(64, 64, 8), block(64, 64, 16)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, CLASSES))


class Recurrent(nn.Module):
    """Words to a class: an embedding, an LSTM both ways (Hochreiter and Schmidhuber, 1997), a GRU, the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)
        self.lstm = nn.LSTM(64, 96, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(192, 96, batch_first=True)
        self.last = nn.Linear(96, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        x, _ = self.lstm(self.embedding(words))
        x, _ = self.gru(x)
        return self.last(x[:, -1])
