"""The JPEG copy of CIFAR-10 in CIFAR-10's binary form, which `search` reads.

The copy is lossy (32.4 dB against the originals). Its figures say "CIFAR-10, JPEG copy".
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks import DataMissing

FOLDER = "cifar-10-batches-bin"
TRAINING_FILES = 5


def write_cifar10(source: Path, target: Path) -> Path:
    """Decode the copy into `target`/cifar-10-batches-bin, unless it is there.

    Args:
        source: folder of `cifar10_train_jpeg.npz` and `cifar10_test_jpeg.npz`, images sorted by
            class.
        target: made if missing. Training images are always shuffled in the same way.

    Returns:
        The folder to give to `search --data-dir`.

    Raises:
        DataMissing: the copy is not there.
    """
    folder = target / FOLDER
    names = folder / "batches.meta.txt"  # written last
    if names.is_file():
        return target
    for split in ("train", "test"):
        if not (source / f"cifar10_{split}_jpeg.npz").is_file():
            raise DataMissing(f"{source} does not hold cifar10_{split}_jpeg.npz")
    folder.mkdir(parents=True, exist_ok=True)
    records, _ = _records(source / "cifar10_train_jpeg.npz")
    for index, part in enumerate(np.array_split(records, TRAINING_FILES), start=1):
        (folder / f"data_batch_{index}.bin").write_bytes(part.tobytes())
    records, classes = _records(source / "cifar10_test_jpeg.npz")
    (folder / "test_batch.bin").write_bytes(records.tobytes())
    names.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    return target


def _records(path: Path) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Records (N, 1 + 3072) of label and pixels, shuffled, and the names of the classes."""
    with np.load(path) as archive:
        blob, offsets, labels = archive["blob"].tobytes(), archive["offsets"], archive["labels"]
        classes = [str(name) for name in archive["classes"]]
    records = np.empty((len(labels), 1 + 3 * 32 * 32), np.uint8)
    records[:, 0] = labels
    for record, begin, end in zip(records, offsets[:-1], offsets[1:], strict=True):
        picture = Image.open(io.BytesIO(blob[begin:end])).convert("RGB")
        record[1:] = np.asarray(picture).transpose(2, 0, 1).reshape(-1)
    return records[np.random.default_rng(0).permutation(len(records))], classes
