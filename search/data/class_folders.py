"""A folder with a subfolder per class, with images of any size.

Subfolders `train` and `test` (or another of `TEST_FOLDERS`, in any case) give the split. Without
them a sixth of each class, drawn with a fixed seed, becomes the test images. Every image's shorter
side is resized to the network's input, and the middle is kept.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search.data.decoding import FORMATS, Decoded, Source, decode_all
from search.data.image_set import ImageSet, make_image_set
from search.process.randomness import generator
from shared.errors import WrongUse

FOLDER = "folder:"
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
IGNORED = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")
"""Left by file managers; so is every name that begins with a dot."""
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation", "holdout")
"""Names of splits in any case, or words in them as in `training_set`; the first that is there is taken."""
TO_CONVERT = (".heic", ".heif", ".avif", ".jxl", ".jp2")
TEST_SHARE, SPLIT_SEED = 1 / 6, 0
LEAST_PER_CLASS, LEAST_TRAINING = 5, 40
"""Fewer images leave none to train, to choose or to rank with."""
SHOWN = 5
BEFORE = (
    "shorter side resized bilinearly with antialiasing to {0}, middle {0} x {0} kept, first frame, EXIF turned,"
    " transparent pixels on white"
)
CHUNK = 4096


@dataclass(frozen=True)
class Layout:
    """Classes and images of a folder, sorted.

    Attributes:
        split: the folder's own train and test folder, and folders that are left over; () if the
            split was drawn.
    """

    classes: tuple[str, ...]
    train: tuple[Source, ...]
    test: tuple[Source, ...]
    split: tuple[str, ...]


def load_folder(
    root: Path,
    resolution: int,
    channels: int,
    cache_dir: Path,
    skip_broken: bool = False,
    warn: Callable[[str], None] = lambda line: None,
) -> ImageSet:
    """Load a folder; the cache keeps decoded images, a memory-mapped file per content.

    Args:
        root: with the class folders, or with `train` and `test`.
        resolution, channels: of the network's input; 1 channel makes the images grey.
        cache_dir: for decoded images.
        skip_broken: leave out files that are no images or cannot be decoded.
        warn: told which files were left out, and how many.

    Raises:
        WrongUse: there is no such folder, or it does not suit a search.
        LutnasError: the cache cannot be written.
    """
    if channels not in (1, 3):
        raise WrongUse(f"{FOLDER}{root} gives images of 1 or 3 channels, the table's networks take {channels}")
    layout, foreign = scan(root)
    if foreign and not skip_broken:
        raise WrongUse(
            f"{root / foreign[0]} is no image that can be read here ({', '.join(SUFFIXES)}){_conversion(foreign[0])};"
            f" remove {_them(foreign)}, or leave out what is unreadable with --skip-broken"
        )
    check_counts(root, layout, foreign)
    if alike := [] if layout.split else _alike(root, layout.classes):
        warn(
            f"{root}: each class holds the same folders ({', '.join(alike[:SHOWN])}), as splits do; if those are the"
            " classes, name the upper folders train and test"
        )
    if layout.split[2:]:
        warn(f"{root}: {' and '.join(layout.split[:2])} are the split; left out: {', '.join(layout.split[2:])}")
    decoded = decode_all(root, (*layout.train, *layout.test), resolution, channels, cache_dir / "decoded")
    broken = dict(decoded.broken)
    if broken and not skip_broken:
        first, reason = next(iter(broken.items()))
        raise WrongUse(
            f"{root / first} cannot be decoded: {reason}; remove {_them(list(broken))}, or leave out what is unreadable"
            " with --skip-broken"
        )
    skipped = sorted([*foreign, *broken])
    if skipped:
        shown = ", ".join(skipped[:SHOWN]) + (f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else "")
        warn(f"left out {len(skipped)} unreadable files of {root}: {shown}")
    train, test = (tuple(image for image in part if image.path not in broken) for part in (layout.train, layout.test))
    layout = Layout(layout.classes, train, test, layout.split)
    check_counts(root, layout, skipped)
    for name in _flat_classes(layout, decoded.images):
        warn(f"{root}: every image of the class {name} is of a single colour; what it shows may be white on clear")
    return _image_set(root, layout, decoded, resolution, channels, skipped)


def scan(root: Path) -> tuple[Layout, list[str]]:
    """Layout of a folder, and files that are no images. No file is opened.

    Raises:
        WrongUse: no folder, or half of a split.
    """
    if not root.is_dir():
        raise WrongUse(f"{FOLDER}{root}: there is no such folder")
    top = _subfolders(root)
    train_name, test_name = (
        next((found for name in names for found in top if found.lower() == name), "")
        or next((found for name in names for found in top if name in _words(found) and _subfolders(root / found)), "")
        for names in (TRAIN_FOLDERS, TEST_FOLDERS)
    )
    if train_name and test_name:
        classes, train, foreign = _classes(root, f"{train_name}/")
        test_classes, test, more = _classes(root, f"{test_name}/")
        if classes != test_classes:
            missing = sorted(set(classes) ^ set(test_classes))
            raise WrongUse(f"{root}: the class {missing[0]} is missing in either {train_name} or {test_name}")
        left = (name for name in top if name not in (train_name, test_name))
        return Layout(classes, train, test, (train_name, test_name, *left)), foreign + more
    half = train_name or test_name
    if half.lower() in (*TRAIN_FOLDERS, *TEST_FOLDERS) and _subfolders(root / half):
        raise WrongUse(
            f"{root}: {half} holds folders like half of a split, and the other half is missing"
            f" ({' or '.join(TEST_FOLDERS if train_name else TRAIN_FOLDERS)}); add that, or name"
            f" {FOLDER}{root / half} to have a sixth of its images drawn"
        )
    classes, images, foreign = _classes(root, "")
    return Layout(classes, *_split(images, classes), split=()), foreign


def check_counts(root: Path, layout: Layout, unread: Sequence[str] = ()) -> None:
    """Raise WrongUse unless there are two classes or more with enough images.

    Args:
        unread: files that are left out.
    """
    if len(layout.classes) == 0:
        raise WrongUse(f"{root} holds no class folders: make one folder per class and put its images there")
    if len(layout.classes) == 1:
        inner = root / layout.classes[0]
        instead = f"; if the classes lie in it, name {FOLDER}{inner}" if inner.is_dir() and _subfolders(inner) else ""
        raise WrongUse(f"{root} holds a single class ({layout.classes[0]}): a search needs two or more{instead}")
    for label, name in enumerate(layout.classes):
        train, test = (sum(source.label == label for source in part) for part in (layout.train, layout.test))
        if train + test == 0:
            other = [file for file in unread if name in Path(file).parts[:-1]]
            what = f"holds no image that can be read, but {other[0]}{_conversion(other[0])}" if other else "is empty"
            raise WrongUse(f"{root}: the class {name} {what}; add images or remove its folder")
        if train + test < LEAST_PER_CLASS or train == 0 or test == 0:
            raise WrongUse(
                f"{root}: the class {name} has {train} images to train on and {test} to test with;"
                f" a class needs {LEAST_PER_CLASS} or more in all, and some of both"
            )
    if len(layout.train) < LEAST_TRAINING:
        raise WrongUse(
            f"{root} has {len(layout.train)} images to train on; a search needs {LEAST_TRAINING} or more,"
            " and hundreds per class to be of use"
        )


def _classes(root: Path, prefix: str) -> tuple[tuple[str, ...], tuple[Source, ...], list[str]]:
    names = _subfolders(root / prefix)
    images: list[Source] = []
    foreign: list[str] = []
    for label, name in enumerate(names):
        folder = root / prefix / name
        if root.resolve().is_relative_to(folder.resolve()):
            raise WrongUse(f"{folder} is a link to a folder that it lies in; remove it")
        for path in sorted(folder.rglob("*")):
            if path.is_dir() or any(map(_is_ignored, path.relative_to(folder).parts)):
                continue
            relative = path.relative_to(root).as_posix()
            if any("\ud800" <= letter <= "\udfff" for letter in relative):  # how Python shows bytes that are no UTF-8
                raise WrongUse(f"{root} holds a file whose name is no text: {relative!a}; rename it")
            if path.suffix.lower() in SUFFIXES and (path.is_file() or path.is_symlink()):
                images.append(Source(relative, label))
            else:
                foreign.append(relative)
    return tuple(names), tuple(images), foreign


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not _is_ignored(path.name))


def _words(name: str) -> list[str]:
    return re.split(r"[\W\d_]+", name.lower())


def _alike(root: Path, classes: Sequence[str]) -> list[str]:
    """The subfolders of every class, if all have the same."""
    first, *others = ([*_subfolders(root / name)] for name in classes)
    return first if all(other == first for other in others) else []


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in IGNORED


def _flat_classes(layout: Layout, images: Tensor) -> list[str]:
    """Classes all of whose images (N, channels, side, side) are of a single colour."""
    labels = torch.tensor([source.label for source in (*layout.train, *layout.test)])
    pixels = (part.flatten(2) for part in images.split(CHUNK))
    flat = torch.cat([(part.amax(2) == part.amin(2)).all(1) for part in pixels])
    return [name for label, name in enumerate(layout.classes) if flat[labels == label].all()]


def _split(images: Sequence[Source], classes: Sequence[str]) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """The same share of each class, drawn by seed and class name: other classes change nothing."""
    tested: set[str] = set()
    for label, name in enumerate(classes):
        own = [image for image in images if image.label == label]
        count = round(len(own) * TEST_SHARE) or min(1, len(own))
        order = torch.randperm(len(own), generator=generator(SPLIT_SEED, "folder split", name))
        tested.update(own[int(index)].path for index in order[:count])
    train = tuple(image for image in images if image.path not in tested)
    return train, tuple(image for image in images if image.path in tested)


def _image_set(
    root: Path, layout: Layout, decoded: Decoded, resolution: int, channels: int, skipped: Sequence[str]
) -> ImageSet:
    train, test = (torch.tensor([source.label for source in part]) for part in (layout.train, layout.test))
    tensors = decoded.images[: len(train)], train, decoded.images[len(train) :], test
    origin: dict[str, Any] = {
        "split": f"the folder's own: {' and '.join(layout.split[:2])}"
        if layout.split
        else f"a sixth of each class drawn with seed {SPLIT_SEED}",
        "skip_broken": bool(skipped),
        "skipped": list(skipped),
        "train_files": [source.path for source in layout.train],
        "test_files": [source.path for source in layout.test],
    }
    name, before = f"{FOLDER}{root.resolve()}", BEFORE.format(resolution)
    return make_image_set(name, tensors, resolution, channels, layout.classes, True, before, origin)


def _conversion(file: str) -> str:
    """How to make a readable image of a file, if that is known."""
    path = Path(file)
    if path.suffix.lower() not in TO_CONVERT:
        return ""
    return f", which `{shlex.join(['magick', path.name, path.with_suffix('.jpg').name])}` converts"


def _them(files: Sequence[str]) -> str:
    return "it" if len(files) == 1 else f"it and {len(files) - 1} more"
