import gzip
import json
from pathlib import Path

import pytest
import torch

from search.data import Preprocessing, at_resolution, augment, load_images, splits
from search.data.sources import DEBIAN_FOLDER, FASHION_FILES
from search.data.stream import Stream
from shared.errors import CorruptFile, InvalidValue, LutnasError, UnknownName, WrongUse


def preprocessing(size: int, source_size: int, source_channels: int = 1) -> Preprocessing:
    return Preprocessing(size, 3, source_size, source_channels, (0.5,) * 3, (0.25,) * 3, ("a", "b"))


def test_user_without_a_home_needs_a_folder_only_for_what_is_kept(tmp_path, monkeypatch):
    for name in ("HOME", "LUTNAS_CACHE_DIR", "XDG_CACHE_HOME", "LUTNAS_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 60_123)
    with pytest.raises(RuntimeError):
        Path.home()
    assert len(load_images("digits", 8, 1).test_labels) == 297
    with pytest.raises(WrongUse, match="no home folder: name a folder for data with LUTNAS_CACHE_DIR"):
        load_images("cifar-10", 32, 3)
    with pytest.raises(WrongUse, match="LUTNAS_CACHE_DIR"):
        load_images("fashion-mnist", 28, 1, debian_folder=tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WrongUse, match="found no cifar-10"):
        load_images("cifar-10", 32, 3)


def no_network(folder):
    raise LutnasError("no network here")


def test_28_pixels_become_32_by_two_black_pixels_a_side():
    images = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    out = preprocessing(32, 28).apply(images)
    assert out.shape == (1, 3, 32, 32)
    assert out.dtype == torch.float32
    assert torch.all(out[..., 2:30, 2:30] == 2)
    assert torch.all(out[..., :2, :] == -2)
    assert torch.all(out[..., 30:] == -2)


def test_images_much_smaller_or_larger_are_resized():
    images = torch.full((2, 1, 8, 8), 51, dtype=torch.uint8)
    assert torch.allclose(preprocessing(32, 8).apply(images), torch.tensor((0.2 - 0.5) / 0.25))
    big = torch.full((2, 3, 64, 64), 51, dtype=torch.uint8)
    assert preprocessing(32, 64, 3).apply(big).shape == (2, 3, 32, 32)


def test_the_description_names_layout_size_statistics_and_classes():
    described = preprocessing(32, 28).describe()
    assert described["input_layout"] == "NCHW"
    assert described["input_size"] == "32"
    assert json.loads(described["mean"]) == [0.5, 0.5, 0.5]
    assert json.loads(described["class_names"]) == ["a", "b"]
    assert "2 rows and columns" in described["input_resize"]
    assert all(isinstance(value, str) for value in described.values())


def test_channels_that_cannot_be_had_are_refused():
    with pytest.raises(InvalidValue, match="channels"):
        Preprocessing(32, 1, 32, 3, (0.5,), (0.5,), ())


def test_average_pooling_needs_a_resolution_that_divides():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert at_resolution(images, 2)[0, 0, 0, 0] == 2.5
    assert at_resolution(images, 4) is images
    with pytest.raises(InvalidValue, match="divide"):
        at_resolution(images, 3)


def test_splits_are_disjoint_cover_all_training_images_and_follow_the_seed(digits):
    one, again, other = splits(digits, 1), splits(digits, 1), splits(digits, 2)
    everything = torch.cat([one.train, one.validation, one.ranking])
    assert sorted(everything.tolist()) == list(range(1500))
    assert (len(one.train), len(one.validation), len(one.ranking)) == (750, 675, 75)
    assert torch.equal(one.train, again.train)
    assert not torch.equal(one.train, other.train)


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_is_read_from_the_debian_package():
    images = load_images("fashion-mnist", 32, 3, fetch=no_network)
    assert images.name == "fashion-mnist"
    assert images.train_images.shape == (60000, 1, 28, 28)
    assert images.test_labels.bincount().tolist() == [1000] * 10
    assert len(splits(images, 0).ranking) == 3000
    assert images.preprocessing.mean == (0.286,) * 3


def test_without_any_source_digits_stand_in_and_a_line_says_so(tmp_path):
    lines = []
    images = load_images(
        "fashion-mnist",
        16,
        3,
        debian_folder=tmp_path / "none",
        cache_dir=tmp_path / "cache",
        fetch=no_network,
        warn=lines.append,
    )
    assert images.name == "digits"
    assert not images.mirror
    assert len(lines) == 1
    assert "digits" in lines[0]
    assert "no network here" in lines[0]


def test_a_file_with_another_content_is_named(tmp_path):
    for name in FASHION_FILES:
        (tmp_path / name).write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x07"))
    with pytest.raises(CorruptFile, match=r"train-images-idx3-ubyte\.gz.*SHA-256"):
        load_images("fashion-mnist", 32, 3, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(b"x" * 1000, mtime=0)[:20]])
def test_a_broken_file_is_named(tmp_path, content):
    for name in FASHION_FILES:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptFile, match=r"train-images-idx3-ubyte\.gz"):
        load_images("fashion-mnist", 32, 3, tmp_path)


def test_a_missing_file_in_a_given_folder_is_named(tmp_path):
    with pytest.raises(CorruptFile, match=r"train-images-idx3-ubyte\.gz"):
        load_images("fashion-mnist", 32, 3, tmp_path)


def test_an_unknown_data_set_names_the_known_ones():
    with pytest.raises(UnknownName, match="digits, fashion-mnist"):
        load_images("imagenet", 32, 3)


def test_augmentation_shifts_and_mirrors_whole_images():
    images = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
    images[:, 0, 4, 5] = 9
    out = augment(images, torch.Generator().manual_seed(0), padding=2, mirror=True)
    assert out.shape == images.shape
    where = out.nonzero()[:, 2:]
    assert len(where) == 200
    assert set(where[:, 0].tolist()) == {2, 3, 4, 5, 6}
    assert set(where[:, 1].tolist()) == {0, 1, 2, 3, 4, 5, 6, 7}  # 5 +- 2, and mirrored 2 +- 2
    unmirrored = augment(images, torch.Generator().manual_seed(0), padding=2, mirror=False)
    assert set(unmirrored.nonzero()[:, 3].tolist()) == {3, 4, 5, 6, 7}


def test_a_batch_follows_from_seed_and_index_and_an_epoch_sees_each_image_once(digits):
    indices = splits(digits, 0).train
    stream = Stream(digits, indices, 8, 50, 7, "weights")
    again = Stream(digits, indices, 8, 50, 7, "weights")
    images, labels = stream.batch(33)
    assert torch.equal(images, again.batch(33)[0])
    assert torch.equal(labels, again.batch(33)[1])
    assert images.shape == (50, 3, 8, 8)
    epoch = torch.cat([stream.batch(i)[1] for i in range(15, 30)])
    assert epoch.bincount().tolist() == digits.train_labels[indices].bincount().tolist()
    assert not torch.equal(labels, stream.batch(33 + 15)[1])
