import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from search.data import load_images
from search.data.array_pickle import read_array_pickle
from shared.errors import CorruptFile, InvalidValue, WrongUse

CIFAR10 = Path(os.environ.get("LUTNAS_CIFAR10", "nowhere"))
PIXELS = 3072
# As Python 2 and NumPy 1 wrote them: an array of one row, 0 to 3, in protocol 2.
OLD = (
    b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
    b"(K\x01K\x01K\x04\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    b"\x00tb\x89U\x04\x00\x01\x02\x03tbs."
)


def images_and_labels(count, classes, seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, PIXELS), np.uint8), [index % classes for index in range(count)]


def write_cifar_10(root, binary):
    folder = root / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        images, labels = images_and_labels(20, 10, number)
        if binary:
            (folder / f"{name}.bin").write_bytes(np.column_stack([np.array(labels, np.uint8), images]).tobytes())
        else:
            (folder / name).write_bytes(pickle.dumps({b"data": images, b"labels": labels}, protocol=2))
    names = [f"class {number}" for number in range(10)]
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return folder


def test_both_forms_of_cifar_10_give_the_same_images(tmp_path):
    (tmp_path / "py").mkdir()
    (tmp_path / "bin").mkdir()
    write_cifar_10(tmp_path / "py", binary=False)
    folder = write_cifar_10(tmp_path / "bin", binary=True)
    python = load_images("cifar-10", 32, 3, tmp_path / "py")
    binary = load_images("cifar-10", 32, 3, folder)
    assert python.train_images.shape == (100, 3, 32, 32)
    assert python.test_labels.tolist() == [index % 10 for index in range(20)]
    assert np.array_equal(python.train_images[20].reshape(-1), images_and_labels(20, 10, 1)[0][0])
    assert python.preprocessing.class_names == tuple(f"class {number}" for number in range(10))
    assert python.fingerprint == binary.fingerprint
    expected = python.train_images.double().div(255).transpose(0, 1).flatten(1)
    assert python.preprocessing.std == tuple(round(value, 4) for value in expected.std(dim=1).tolist())


@pytest.mark.parametrize("binary", [True, False])
def test_cifar_100_has_its_fine_labels(tmp_path, binary):
    folder = tmp_path / "any name"
    folder.mkdir()
    for name, count in (("train", 200), ("test", 100)):
        images, fine = images_and_labels(count, 100, 0)
        if binary:
            records = np.column_stack([np.full(count, 19, np.uint8), np.array(fine, np.uint8), images])
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            batch = {"data": images, "fine_labels": fine, "coarse_labels": [19] * count}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=5))
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine {number}" for number in range(100)))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"fine"] * 100}))
    images = load_images("cifar-100", 32, 3, folder)
    assert images.train_labels.tolist() == [index % 100 for index in range(200)]
    assert len(images.preprocessing.class_names) == 100


class Harmful:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_pickle_that_would_run_something_is_refused_unread(tmp_path):
    folder, trace = write_cifar_10(tmp_path, binary=False), tmp_path / "trace"
    (folder / "data_batch_3").write_bytes(pickle.dumps({b"data": Harmful(trace)}))
    with pytest.raises(CorruptFile, match="data_batch_3 cannot be read: it wants to call"):
        load_images("cifar-10", 32, 3, tmp_path)
    assert not trace.exists()


def test_arrays_of_python_2_are_read():
    assert read_array_pickle(OLD, "old")["data"].tolist() == [[0, 1, 2, 3]]


def test_arrays_of_objects_are_refused():
    with pytest.raises(CorruptFile, match="not of uint8"):
        read_array_pickle(pickle.dumps({"data": np.array([print], object)}), "it")


@pytest.mark.parametrize("share", [0, 0.3, 0.999])
@pytest.mark.parametrize("binary", [True, False])
def test_a_file_that_was_cut_is_named(tmp_path, binary, share):
    folder = write_cifar_10(tmp_path, binary)
    cut = folder / ("data_batch_2.bin" if binary else "data_batch_2")
    content = cut.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CorruptFile, match="data_batch_2"):
        load_images("cifar-10", 32, 3, tmp_path)


def test_a_missing_file_and_a_label_too_many_are_named(tmp_path):
    folder = write_cifar_10(tmp_path, binary=True)
    content = (folder / "test_batch.bin").read_bytes()
    (folder / "test_batch.bin").write_bytes(b"\x0a" + content[1:])
    with pytest.raises(CorruptFile, match="a label 10, there are only 10"):
        load_images("cifar-10", 32, 3, tmp_path)
    (folder / "test_batch.bin").unlink()
    with pytest.raises(CorruptFile, match=r"test_batch\.bin cannot be read"):
        load_images("cifar-10", 32, 3, tmp_path)


def test_without_its_files_the_message_says_what_to_do(tmp_path):
    with pytest.raises(WrongUse, match=r"no cifar-10 in .*cifar-10-batches-py with --data-dir"):
        load_images("cifar-10", 32, 3, tmp_path)


def test_colour_images_do_not_fit_a_table_of_grey_ones(tmp_path):
    write_cifar_10(tmp_path, binary=True)
    with pytest.raises(InvalidValue, match=r"3 channels, the table's networks take 1; .*--image-channels 3"):
        load_images("cifar-10", 32, 1, tmp_path)


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="LUTNAS_CIFAR10 names no folder with CIFAR-10 in it")
def test_the_real_cifar_10_has_its_classes_and_counts():
    images = load_images("cifar-10", 32, 3, CIFAR10)
    assert images.train_images.shape == (50000, 3, 32, 32)
    assert images.test_labels.bincount().tolist() == [1000] * 10
    assert images.preprocessing.class_names[3] == "cat"
    assert images.preprocessing.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.002)
