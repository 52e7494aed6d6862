"""CIFAR-10 and CIFAR-100 (fine labels) from their python or binary files (Krizhevsky, 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.data.array_pickle import read_array_pickle
from search.data.image_set import ImageSet, make_image_set
from shared.errors import CorruptFile, WrongUse

SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE
"""Of an image; in both forms channel after channel, row after row."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Form:
    """A data set on the disk: folder, files, file of the class names, and keys in pickles."""

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    label_key: str
    names_key: str
    binary: bool = False

    def read(self, path: Path) -> tuple[Bytes, Bytes]:
        """Pixels (N, 3072) and labels (N,) of a file."""
        return _read_binary(path, self.label_key) if self.binary else _read_python(path, self.label_key)

    def class_names(self, folder: Path) -> list[str]:
        """Names in the order of the labels."""
        path = folder / self.names
        if self.binary:
            return [line for line in _bytes(path).decode("utf-8", "replace").splitlines() if line.strip()]
        names = read_array_pickle(_bytes(path), str(path)).get(self.names_key)
        if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
            raise CorruptFile(f"{path} holds no names of classes under '{self.names_key}'")
        return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]


_TEN, _HUNDRED = ("labels", "label_names"), ("fine_labels", "fine_label_names")
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARY_BATCHES = tuple(f"{name}.bin" for name in _BATCHES)
FORMS: dict[str, tuple[Form, ...]] = {
    "cifar-10": (
        Form("cifar-10-batches-bin", _BINARY_BATCHES, "test_batch.bin", "batches.meta.txt", *_TEN, binary=True),
        Form("cifar-10-batches-py", _BATCHES, "test_batch", "batches.meta", *_TEN),
    ),
    "cifar-100": (
        Form("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", *_HUNDRED, binary=True),
        Form("cifar-100-python", ("train",), "test", "meta", *_HUNDRED),
    ),
}
CLASSES = {"cifar-10": 10, "cifar-100": 100}


def load_cifar(name: str, folders: Sequence[Path], resolution: int, channels: int) -> ImageSet:
    """Load CIFAR-10 or CIFAR-100, in the binary form if both are there.

    Args:
        name: "cifar-10" or "cifar-100".
        folders: places to look in, in this order; each is the data set's folder or holds it.

    Raises:
        WrongUse: none of the folders holds it.
        CorruptFile: a file is missing or has the wrong content.
        InvalidValue: the images cannot have that many channels.
    """
    found = find_cifar(name, folders)
    if found is None:
        expected = " or ".join(form.folder for form in FORMS[name])
        raise WrongUse(
            f"found no {name} in {', '.join(map(str, folders))}: get its python or binary version from its authors,"
            f" unpack it, and name the folder that holds {expected} with --data-dir"
        )
    form, folder = found
    names = form.class_names(folder)
    if len(names) != CLASSES[name]:
        raise CorruptFile(f"{folder / form.names} names {len(names)} classes, {name} has {CLASSES[name]}")
    train = _read_all(form, [folder / file for file in form.train], CLASSES[name])
    test = _read_all(form, [folder / form.test], CLASSES[name])
    return make_image_set(name, (*train, *test), resolution, channels, tuple(names), mirror=True)


def find_cifar(name: str, folders: Sequence[Path]) -> tuple[Form, Path] | None:
    """The first folder with the data set, and its form."""
    for folder in folders:
        for form in FORMS[name]:
            if (folder / form.folder / form.train[0]).is_file():
                return form, folder / form.folder
            # A folder of another name; "train" alone may be anything.
            if all((folder / file).is_file() for file in (form.train[0], form.test, form.names)):
                return form, folder
    return None


def _read_all(form: Form, paths: Sequence[Path], classes: int) -> tuple[Tensor, Tensor]:
    parts = [form.read(path) for path in paths]
    counts = [len(labels) for _, labels in parts]
    if min(counts) < max(counts):
        short = paths[counts.index(min(counts))]
        raise CorruptFile(f"{short} has {min(counts)} images where its neighbours have {max(counts)}: is it whole?")
    images = np.concatenate([images for images, _ in parts]).reshape(-1, CHANNELS, SIDE, SIDE)
    labels = np.concatenate([labels for _, labels in parts])
    if labels.max(initial=0) >= classes:
        raise CorruptFile(f"{paths[0].parent} has a label {labels.max()}, there are only {classes} classes")
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def _read_binary(path: Path, label_key: str) -> tuple[Bytes, Bytes]:
    """Records: labels (CIFAR-100: coarse, fine), then pixels."""
    content, labels = np.frombuffer(_bytes(path), np.uint8), 1 if label_key == "labels" else 2
    if len(content) == 0 or len(content) % (labels + PIXELS):
        raise CorruptFile(f"{path} has {len(content)} bytes, which are no records of {labels + PIXELS}: is it whole?")
    records = content.reshape(-1, labels + PIXELS)
    return records[:, labels:], records[:, labels - 1]


def _read_python(path: Path, label_key: str) -> tuple[Bytes, Bytes]:
    found = read_array_pickle(_bytes(path), str(path))
    data, labels = found.get("data"), found.get(label_key)
    if not (isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == PIXELS and len(data)):
        raise CorruptFile(f"{path} holds no images of {PIXELS} bytes under 'data'")
    if not (isinstance(labels, list) and len(labels) == len(data) and all(map(_is_label, labels))):
        raise CorruptFile(f"{path} does not hold one label under '{label_key}' for each of its {len(data)} images")
    return data, np.array(labels, np.uint8)


def _is_label(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= 255


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptFile(f"{path} cannot be read: {error.strerror}") from error
