"""Training batches from memory. Images and shifts follow from the seed and the batch's index."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from search.data.image_set import ImageSet
from search.data.preprocessing import at_resolution, augment
from search.process.randomness import generator

CHUNK = 4096
MOST_PREPARED_BYTES = 1 << 30
"""Larger sets are resized batch by batch from their mapped file, with the same numbers."""
LARGEST_SHIFT_SHARE = 8
"""Images are shifted by up to an eighth of their side."""


class Stream:
    """Endless augmented batches of a split.

    Images are resized once and kept as uint8, unless they take more than `most_bytes`. An epoch has
    each image once, without the remainder that fills no batch.

    Args:
        resolution: side of the batches' images.
        batch_size: images per batch; at most the split's size.
        augmented: whether images are shifted and mirrored.
    """

    def __init__(
        self,
        image_set: ImageSet,
        indices: Tensor,
        resolution: int,
        batch_size: int,
        seed: int,
        name: str,
        augmented: bool = True,
        most_bytes: int = MOST_PREPARED_BYTES,
    ) -> None:
        self._resize, self._resolution = image_set.preprocessing.resize, resolution
        self._stored, self._indices = image_set.train_images, indices
        self._draw = image_set.draw if augmented else None
        self._images: Tensor | None = None
        if self._draw is None and len(indices) * self._stored[0, :, 0, 0].nbytes * resolution**2 <= most_bytes:
            self._images = torch.cat([self._prepared(part) for part in indices.split(CHUNK)])
        self._labels = image_set.train_labels[indices]
        self._normalise = image_set.preprocessing.normalise
        self._mirror = image_set.mirror and augmented
        self._shift = resolution // LARGEST_SHIFT_SHARE if augmented else 0
        self.batch_size = min(batch_size, len(indices))
        self.batches_per_epoch = len(indices) // self.batch_size
        self._seed, self._name = seed, name
        self._order = lru_cache(maxsize=4)(self._draw_order)

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Images (batch, channels, side, side), channels last, and labels; safe for threads."""
        epoch, position = divmod(index, self.batches_per_epoch)
        chosen = self._order(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        random = generator(self._seed, self._name, "augmentation", index)
        if self._draw is not None:
            seed = int(torch.randint(1 << 31, (1,), generator=random))
            images = at_resolution(self._draw(self._indices[chosen], seed), self._resolution)
            return images.contiguous(memory_format=torch.channels_last), self._labels[chosen]
        images = self._prepared(self._indices[chosen]) if self._images is None else self._images[chosen]
        images = augment(images, random, self._shift, self._mirror).float()
        return self._normalise(images).contiguous(memory_format=torch.channels_last), self._labels[chosen]

    def _prepared(self, indices: Tensor) -> Tensor:
        images = self._stored[indices]
        if images.shape[-1] == self._resolution == self._resize(images[:0].float()).shape[-1]:
            return images
        return at_resolution(self._resize(images.float()), self._resolution).round().clamp(0, 255).byte()

    def _draw_order(self, epoch: int) -> Tensor:
        return torch.randperm(len(self._labels), generator=generator(self._seed, self._name, "order", epoch))
