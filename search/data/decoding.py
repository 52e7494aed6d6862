"""Image files, decoded once into a file of uint8 values that is mapped into memory.

Its name follows from the content of the images: a changed folder is decoded anew, an unchanged
folder is not, even in another place. Few images are in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import torch
from torch import Tensor

from shared.errors import LutnasError, in_one_line

RULE = 2
"""Part of the key; whoever changes the decoding adds 1."""
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pnm"),
}
"""Pillow's formats, with the suffixes of their files."""
LFS_START = b"version https://git-lfs"
DECODERS_RAISE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(RuntimeError, MemoryError, struct.error),
)
"""Errors of Pillow for damaged files."""
IN_FLIGHT = 64
"""Images that are read or decoded but not yet written."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Source:
    """An image file: its path below the data set's folder, and its label."""

    path: str
    label: int


@dataclass(frozen=True, eq=False)
class Decoded:
    """uint8 images (N, channels, side, side), mapped from a file; broken files with the reason."""

    images: Tensor
    broken: tuple[tuple[str, str], ...]


def decode_all(root: Path, sources: Sequence[Source], side: int, channels: int, cache: Path) -> Decoded:
    """Decode images in their order with a thread per core, or take them from the cache.

    Args:
        root: folder of the sources.
        side, channels: of the decoded images; 1 channel is grey, 3 are colours.
        cache: folder for decoded images.

    Raises:
        LutnasError: the cache cannot be written.
    """
    key = _key(root, sources, side, channels)
    images, notes = cache / f"{key}.u8", cache / f"{key}.json"
    found = _from_cache(images, notes, side, channels)
    if found is not None:
        return found
    try:
        cache.mkdir(parents=True, exist_ok=True)
        written = images.with_suffix(f".{os.getpid()}.part")
        try:
            with written.open("wb") as file:
                content = _write(file, root, sources, side, channels)
                file.flush()
                os.fsync(file.fileno())
            written.replace(images)
        finally:
            written.unlink(missing_ok=True)
        notes.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        raise LutnasError(
            f"cannot keep decoded images in {cache}: {error.strerror or error}; make room,"
            " or name another folder with LUTNAS_CACHE_DIR"
        ) from error
    again = _from_cache(images, notes, side, channels)
    if again is None:
        raise LutnasError(f"{images} does not hold what was just written to it; is the disk in order?")
    return again


def decode(path: Path, side: int, channels: int) -> bytes | str:
    """The bytes of an image (channels, side, side), or why it cannot be decoded.

    Transparent pixels are shown on white.
    """
    from PIL import Image, ImageOps  # not at the top: only folders of images need it

    try:
        with Image.open(path, formats=tuple(FORMATS)) as image:
            if image.mode.startswith(("I", "F")):
                return f"pixels of more than 8 bits (mode {image.mode}), which `magick FILE -depth 8 FILE` converts"
            turned = ImageOps.exif_transpose(image)
            if turned.has_transparency_data:
                turned = turned.convert("RGBA")
                turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
            coloured = turned.convert("L" if channels == 1 else "RGB")
            fitted = ImageOps.fit(coloured, (side, side), Image.Resampling.BILINEAR)
    except Image.DecompressionBombError:
        return "it claims to have far too many pixels"
    except DECODERS_RAISE as error:
        return _why_broken(path, error)
    return np.asarray(fitted).reshape(side, side, channels).transpose(2, 0, 1).tobytes()


def _why_broken(path: Path, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return "it links to a file that is not there; `git annex get` or `dvc pull` may fetch it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = str(error).replace(str(path), "the file")
    if "cannot identify" not in said:
        return in_one_line(said) or type(error).__name__
    with path.open("rb") as file:
        is_pointer = file.read(len(LFS_START)) == LFS_START
    return "it is a pointer of Git LFS, to be replaced by `git lfs pull`" if is_pointer else "no image in it"


def _write(file: IO[bytes], root: Path, sources: Sequence[Source], side: int, channels: int) -> dict[str, object]:
    digest, broken, count = hashlib.sha256(), [], 0
    results = _in_order(lambda source: decode(root / source.path, side, channels), sources)
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, str):
            broken.append([source.path, result])
            continue
        file.write(result)
        digest.update(result)
        count += 1
    return {"count": count, "sha256": digest.hexdigest(), "broken": broken}


def _from_cache(images: Path, notes: Path, side: int, channels: int) -> Decoded | None:
    """None if it is missing or damaged."""
    try:
        content = json.loads(notes.read_text(encoding="utf-8"))
        count, sha256 = content["count"], content["sha256"]
        broken = tuple((str(path), str(reason)) for path, reason in content["broken"])
        shape = (count, channels, side, side)
        if images.stat().st_size != math.prod(shape):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if count == 0:
        return Decoded(torch.empty(shape, dtype=torch.uint8), broken)
    mapped = torch.from_file(str(images), shared=False, size=math.prod(shape), dtype=torch.uint8)
    if hashlib.sha256(mapped.numpy().data).hexdigest() != sha256:
        return None
    return Decoded(mapped.view(shape), broken)


def _key(root: Path, sources: Sequence[Source], side: int, channels: int) -> str:
    digest = hashlib.sha256(repr((RULE, side, channels)).encode())
    contents = _in_order(lambda source: _find_hash(root / source.path), sources)
    for source, content in zip(sources, contents, strict=True):
        digest.update(repr((source.path, content)).encode())
    return digest.hexdigest()[:32]


def _find_hash(path: Path) -> str | None:
    """Of the content; None of a file that cannot be read, as a link to nothing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _in_order(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Results in order, computed by a thread per core a few items ahead."""
    left = iter(items)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting = deque(pool.submit(work, item) for item in islice(left, IN_FLIGHT))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(left, 1))
