"""A labelled set of images in memory, and its splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from search.data.preprocessing import Preprocessing
from shared.errors import InvalidValue

WEIGHTS_SHARE, RANKING_SHARE = 0.5, 0.05
MOST_RANKING = 3000
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class ImageSet:
    """uint8 images (N, channels, side, side), or float32 of a user's own, int64 labels (N,), their preprocessing.

    Attributes:
        name: for `search.data.load_images`.
        mirror: whether a mirrored image keeps its class.
        origin: of a folder of images: split, files, files that were left out.
        draw: training images at indices, drawn anew by a seed in the user's own way; None shifts and mirrors.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    preprocessing: Preprocessing
    mirror: bool = True
    origin: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[Tensor, int], Tensor] | None = None

    @property
    def title(self) -> str:
        """The name without a path of this machine."""
        return title_of(self.name)

    def record(self) -> dict[str, Any]:
        """Content of data.json in a run's folder."""
        return {
            "dataset": self.name,
            "fingerprint": self.fingerprint,
            "train_images": len(self.train_labels),
            "test_images": len(self.test_labels),
            "class_names": list(self.preprocessing.class_names),
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            "input": self.preprocessing.describe(),
            **self.origin,
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over images and labels: a resumed search needs the same."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().view(-1).numpy().data)
        return digest.hexdigest()


def title_of(name: str) -> str:
    """The name of a data set without a path of this machine."""
    kind, colon, path = name.partition(":")
    return kind + colon + re.split(r"[/\\]", path.rstrip("/\\"))[-1]


@dataclass(frozen=True, eq=False)
class Splits:
    """Indices into the training images; no search ever sees a test image.

    Attributes:
        train: for the weights.
        validation: for the hypernetwork.
        ranking: to rank candidates.
    """

    train: Tensor
    validation: Tensor
    ranking: Tensor


def splits(image_set: ImageSet, seed: int) -> Splits:
    """Half of the images to train, a twentieth (3000 at most) to rank, the rest to validate."""
    count = len(image_set.train_labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    train = int(count * WEIGHTS_SHARE)
    ranking = min(int(count * RANKING_SHARE), MOST_RANKING)
    return Splits(order[:train], order[train : count - ranking], order[count - ranking :])


def make_image_set(
    name: str,
    tensors: tuple[Tensor, Tensor, Tensor, Tensor],
    resolution: int,
    channels: int,
    class_names: tuple[str, ...],
    mirror: bool,
    before: str = "",
    origin: Mapping[str, Any] | None = None,
) -> ImageSet:
    """A set whose preprocessing has mean and standard deviation of its stored training images.

    Args:
        tensors: training images and labels, test images and labels.
        class_names: in the order of the labels.
        before: steps before the images were stored, in words.

    Raises:
        InvalidValue: the images cannot have that many channels.
    """
    images = tensors[0]
    source_channels, source_size = images.shape[1], images.shape[2]
    if source_channels not in (1, channels):
        raise InvalidValue(
            "dataset",
            f"{name} has images of {source_channels} channels, the table's networks take {channels}; a table for these"
            f" images: profiler-agent profile --image-channels {source_channels} ...",
        )
    mean, std = (values * channels if source_channels < channels else values for values in statistics(images))
    if min(std) <= 0:
        raise InvalidValue("dataset", f"{name}: a channel of all training images has a single value: nothing to see")
    preprocessing = Preprocessing(resolution, channels, source_size, source_channels, mean, std, class_names, before)
    return ImageSet(name, *tensors, preprocessing, mirror, origin or {})


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images scaled to [0, 1], to four digits.

    They are made from counts of values: exact, with little memory for any number of images.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for part in images.split(CHUNK):
        for channel, pixels in enumerate(part.transpose(0, 1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    total = counts.sum(dim=1)
    mean = (counts * values).sum(dim=1) / total
    variance = (counts * (values - mean[:, None]).square()).sum(dim=1) / (total - 1)
    rounded = [tuple(round(value, 4) for value in tensor.tolist()) for tensor in (mean, variance.sqrt())]
    return rounded[0], rounded[1]
