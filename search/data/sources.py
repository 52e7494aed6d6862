"""Sources of images: a given folder, a Debian package, the cache, a download, or scikit-learn.

Data sets: `digits`, `fashion-mnist`, `cifar-10`, `cifar-100`, and `folder:PATH` for class folders.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from search.data.cifar import load_cifar
from search.data.class_folders import FOLDER, load_folder
from search.data.image_set import ImageSet, make_image_set
from shared.errors import CorruptFile, LutnasError, UnknownName, WrongUse, in_one_line

DATASETS = ("digits", "fashion-mnist", "cifar-10", "cifar-100", f"{FOLDER}PATH")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DOWNLOAD_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# SHA-256 of the content and of the published gzip file. Debian packs the same content anew:
# files on disk are compared with the first, a download with both.
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    "train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}

Fetch = Callable[[Path], None]
"""Put the four files of Fashion-MNIST into a folder, or raise LutnasError."""


def default_cache_dir() -> Path:
    """Folder for downloaded data: LUTNAS_CACHE_DIR, else the user's cache folder.

    Raises:
        WrongUse: nothing names a folder, and this user has no home.
    """
    if os.environ.get("LUTNAS_CACHE_DIR"):
        return Path(os.environ["LUTNAS_CACHE_DIR"])
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lutnas"
    except RuntimeError as error:
        raise WrongUse("this user has no home folder: name a folder for data with LUTNAS_CACHE_DIR") from error


def download_fashion_mnist(folder: Path) -> None:
    """Download the four files with pinned hashes.

    Raises:
        LutnasError: the source does not answer, or what it sends has another hash.
    """
    import pooch  # not at the top: only who downloads needs it

    pooch.get_logger().setLevel("ERROR")
    for name, (_, published) in FASHION_FILES.items():
        try:
            downloader = pooch.HTTPDownloader(timeout=30)
            pooch.retrieve(DOWNLOAD_URL + name, published, fname=name, path=folder, downloader=downloader)
        except (OSError, ValueError) as error:
            raise LutnasError(f"could not download {name}: {in_one_line(error)}") from error


def load_images(
    name: str,
    resolution: int,
    channels: int,
    data_dir: Path | None = None,
    *,
    debian_folder: Path = DEBIAN_FOLDER,
    cache_dir: Path | None = None,
    fetch: Fetch = download_fashion_mnist,
    warn: Callable[[str], None] = lambda line: None,
    skip_broken: bool = False,
) -> ImageSet:
    """Load a set of images for a network's input size and channels.

    Fashion-MNIST comes from `data_dir` if given, else from Debian's package, the cache or a
    download. If all of these fail, scikit-learn's digits replace it, and `warn` is told. CIFAR
    comes from `data_dir` if given, else from the folder of LUTNAS_DATA, else from the cache.

    Args:
        data_dir: folder with the data set's files.
        debian_folder, cache_dir, fetch: other sources; the cache also holds decoded images.
        warn: told what differs from the request.
        skip_broken: leave out broken images of a folder instead of refusing it.

    Raises:
        UnknownName: no such data set.
        CorruptFile: a file in `data_dir` is missing or has the wrong content.
        InvalidValue: the images cannot have that many channels.
        WrongUse: there is no such data, or it does not suit a search.
    """
    if name.startswith(FOLDER):
        if data_dir is not None:
            raise WrongUse(f"--data-dir is for the files of a known data set; {name} names its own folder")
        # A shell leaves the ~ of folder:~/images alone; os.path does so where there is no home folder.
        folder = Path(os.path.expanduser(name.removeprefix(FOLDER)))  # noqa: PTH111
        return load_folder(folder, resolution, channels, cache_dir or default_cache_dir(), skip_broken, warn)
    if name not in DATASETS or name == f"{FOLDER}PATH":
        raise UnknownName("dataset", name, DATASETS)
    if name in ("cifar-10", "cifar-100"):
        return load_cifar(name, [data_dir] if data_dir else _usual_folders(cache_dir), resolution, channels)
    if name == "digits":
        return _digits(resolution, channels)
    if data_dir is not None:
        return _fashion_mnist(data_dir, resolution, channels)
    places: tuple[Callable[[], Path], ...] = (
        lambda: debian_folder,
        lambda: (cache_dir or default_cache_dir()) / "fashion-mnist",  # a user without a home may not need it
    )
    for find in places:
        cache = find()
        if all((cache / file).is_file() for file in FASHION_FILES):
            try:
                return _fashion_mnist(cache, resolution, channels)
            except CorruptFile as error:
                warn(f"{error}; looking elsewhere")
    try:
        fetch(cache)
        return _fashion_mnist(cache, resolution, channels)
    except LutnasError as error:
        warn(f"{error}; searching on scikit-learn's digits instead of fashion-mnist")
        return _digits(resolution, channels)


def _usual_folders(cache_dir: Path | None) -> list[Path]:
    named = os.environ.get("LUTNAS_DATA")
    return [*([Path(named)] if named else []), cache_dir or default_cache_dir()]


def _fashion_mnist(folder: Path, resolution: int, channels: int) -> ImageSet:
    train_images, train_labels, test_images, test_labels = (_idx(folder / name) for name in FASHION_FILES)
    tensors = train_images[:, None], train_labels.long(), test_images[:, None], test_labels.long()
    return make_image_set("fashion-mnist", tensors, resolution, channels, FASHION_CLASSES, mirror=True)


def _idx(path: Path) -> Tensor:
    """Read an IDX file: two zero bytes, type 8 (uint8), number of dimensions, big-endian sizes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptFile(f"{path} cannot be read: {error}") from error
    expected, _ = FASHION_FILES[path.name]
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise CorruptFile(f"{path} is not Fashion-MNIST's: its content has SHA-256 {found[:16]}…, not {expected[:16]}…")
    dimensions = content[3]
    sizes = np.frombuffer(content, ">u4", dimensions, offset=4).astype(int)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(sizes).copy())


def _digits(resolution: int, channels: int) -> ImageSet:
    from sklearn.datasets import load_digits  # seconds to import, and only the fallback needs it

    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]  # (1797, 1, 8, 8)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1500], order[1500:]
    tensors = images[train], labels[train], images[test], labels[test]
    return make_image_set("digits", tensors, resolution, channels, tuple("0123456789"), mirror=False)
