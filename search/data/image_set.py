"""A labelled set of images in memory, and which of them serve which purpose."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from search.data.preprocessing import Preprocessing

WEIGHTS_SHARE, RANKING_SHARE = 0.5, 0.05
MOST_RANKING = 3000


@dataclass(frozen=True, eq=False)
class ImageSet:
    """uint8 images (N, channels, side, side) as stored, int64 labels (N,), and how they become a network's input.

    Attributes:
        mirror: whether a mirrored image keeps its class.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    preprocessing: Preprocessing
    mirror: bool = True

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over images and labels: a resumed search must see the same ones."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """Indices into the training images. Test images belong to no split: no search ever sees them.

    Attributes:
        train: for the weights.
        validation: for the hypernetwork.
        ranking: to rank candidates, seen by neither of the two.
    """

    train: Tensor
    validation: Tensor
    ranking: Tensor


def splits(image_set: ImageSet, seed: int) -> Splits:
    """Half of the training images for the weights, a twentieth (3000 at most) for ranking, the rest for validation."""
    count = len(image_set.train_labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    train = int(count * WEIGHTS_SHARE)
    ranking = min(int(count * RANKING_SHARE), MOST_RANKING)
    return Splits(order[:train], order[train : count - ranking], order[count - ranking :])
