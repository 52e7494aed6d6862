"""The images of a user's own `make_data()`, beside the model in its file.

Every item is read once, for ranking, statistics and tests. Training draws its items anew, so that
the user's own random steps keep their effect. Draws follow from a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Lock

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from search.data.class_folders import LEAST_TRAINING
from search.data.image_set import ImageSet
from search.data.preprocessing import Preprocessing
from search.own_model.model_file import SEED, OwnFile
from shared.errors import InvalidValue
from shared.spaces.op_key import Shape

MAKE_DATA = "make_data"
MOST_BYTES, CHUNK = 2 << 30, 256


def find_own_images(where: str, image: Shape, classes: int, most_bytes: int = MOST_BYTES) -> ImageSet | None:
    """float32 images as the loaders of a model's file give them; None where it has none. This runs its code.

    Raises:
        InvalidValue: a line that says what is wrong with them.
    """
    if (file := OwnFile(where)).find(MAKE_DATA) is None:
        return None
    train, test = _open_loaders(file, image, classes)
    count = len(train.keys) + len(test.keys)
    if len(train.keys) < LEAST_TRAINING or not test.keys:
        found = f"gives {len(train.keys)} images to train on and {len(test.keys)} to test"
        raise InvalidValue(MAKE_DATA, f"{found}; a search needs {LEAST_TRAINING} and 1 or more")
    if (needed := 4 * count * math.prod(train.sides)) > most_bytes:
        size = (
            f"{count:,} images of {image} take {needed / 2**30:.1f} GiB of memory, more than {most_bytes / 2**30:.1f}"
        )
        raise InvalidValue(MAKE_DATA, f"{size}: give fewer, or --dataset folder:PATH, which is read from disk")
    (images, labels), tests = train.read(), test.read()
    again, _ = _open_loaders(OwnFile(where), image, classes)  # as another process will
    first = range(len(again.keys))[:CHUNK]
    if again.keys != train.keys or not torch.equal(again.draw(first, SEED)[0], images[:CHUNK]):
        raise InvalidValue(MAKE_DATA, "gives other images each time: seed what draws apart from torch, numpy, random")
    side, mean, std = (image.height, image.channels), (0.0,) * image.channels, (1.0,) * image.channels
    names, before = tuple(map(str, range(classes))), f"as {MAKE_DATA} of {file.path.name} gives them"
    as_given = Preprocessing(*side, *side, mean, std, names, before, scale=1)
    draw, name = lambda at, seed: train.draw(at.tolist(), seed)[0], f"{MAKE_DATA}:{file.path}"
    return ImageSet(name, images, labels, *tests, as_given, draw=draw)


def _open_loaders(file: OwnFile, image: Shape, classes: int) -> list[_Items]:
    """The items to train on, and to test."""
    with file.running(MAKE_DATA, SEED):
        made = make() if (make := file.find(MAKE_DATA)) else None
    parts = made if isinstance(made, (tuple, list)) else (made,)
    if len(parts) != 2 or not all(isinstance(part, DataLoader) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise InvalidValue(MAKE_DATA, f"of {file.name} returns {kinds}, not two DataLoaders (training, test)")
    return [_Items(file, *part, image, classes) for part in zip(("training", "test"), parts, strict=True)]


class _Items:
    """What a pass of a loader has, each item once; several threads may draw."""

    def __init__(self, file: OwnFile, name: str, loader: DataLoader[object], image: Shape, classes: int) -> None:
        self._file, self._name, self._loader, self._classes, self._lock = file, name, loader, classes, Lock()
        self.sides = image.channels, image.height, image.width
        if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
            raise self._wrong("has no items by number in batches: give a Dataset with __getitem__, and a batch_size")
        with file.running(MAKE_DATA, SEED):
            self.keys = sorted({key for batch in loader.batch_sampler for key in batch})

    def read(self) -> tuple[Tensor, Tensor]:
        """All images and labels."""
        places = range(len(self.keys))
        parts = [self.draw(places[begin : begin + CHUNK], SEED + begin) for begin in places[::CHUNK]]
        images, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        return images, labels

    def draw(self, places: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
        """Images and labels at these places; random steps follow from the seed."""
        keys, dataset, collate = [self.keys[at] for at in places], self._loader.dataset, self._loader.collate_fn
        with self._lock, self._file.running(MAKE_DATA, seed):
            batch = next(iter(DataLoader(dataset, batch_sampler=[keys], collate_fn=collate)))
        images, labels = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (batch, None)
        if not (isinstance(images, Tensor) and isinstance(labels, Tensor)):
            raise self._wrong(f"gives a {type(batch).__name__}, not a pair of tensors: images and labels")
        if images.shape != (len(keys), *self.sides):
            found, asked = ("x".join(map(str, sides)) for sides in (images.shape, self.sides))
            raise self._wrong(f"gives images {found} for {len(keys)} items, --input says {asked}")
        if labels.shape != (len(keys),) or labels.is_floating_point() or {*labels.tolist()} - {*range(self._classes)}:
            found, last = f"{tuple(labels.shape)}, {labels.dtype}, at most {labels.max()}", self._classes - 1
            raise self._wrong(f"gives labels ({found}) that are not a class from 0 to {last} for each image")
        return images.float(), labels.long()

    def _wrong(self, problem: str) -> InvalidValue:
        return InvalidValue(MAKE_DATA, f"the {self._name} loader of {self._file.name} {problem}")
