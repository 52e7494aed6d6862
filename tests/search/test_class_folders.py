import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from search.data import load_images, splits
from search.data.class_folders import BEFORE
from search.data.decoding import decode
from search.data.stream import Stream
from search.runs.run_directory import RunDirectory
from shared.errors import InvalidValue, LutnasError, WrongUse


def picture(width, height, seed, mode="RGB"):
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


def write_classes(root, names=("cat", "dog"), count=30, suffixes=("jpg", "png")):
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(count):
            size = (20 + index, 30 - number)
            picture(*size, seed=100 * number + index).save(
                root / name / f"{index:02d}.{suffixes[index % len(suffixes)]}"
            )
    return root


def load(root, tmp_path, **more):
    return load_images(f"folder:{root}", 16, 3, cache_dir=tmp_path / "cache", **more)


def test_a_folder_gives_classes_a_split_and_a_normalisation_that_are_written_down(tmp_path, config, table):
    root = write_classes(tmp_path / "pets")
    images = load(root, tmp_path)
    assert images.preprocessing.class_names == ("cat", "dog")
    assert images.train_images.shape == (50, 3, 16, 16)
    assert images.test_labels.bincount().tolist() == [5, 5]
    files = images.origin["train_files"] + images.origin["test_files"]
    assert sorted(files) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    again = load(root, tmp_path / "other cache")
    assert again.fingerprint == images.fingerprint
    run = RunDirectory.create(tmp_path / "run", replace(config, dataset=images.name), table, images=images)
    record = json.loads((run.path / "data.json").read_text())
    assert record["class_names"] == ["cat", "dog"]
    assert record["mean"] == list(images.preprocessing.mean)
    assert record["test_files"] == images.origin["test_files"]
    assert "drawn with seed" in record["split"]
    assert "middle 16 x 16 kept" in images.preprocessing.describe()["input_resize"]
    assert images.title == "folder:pets"


def test_each_image_is_the_middle_of_the_resized_file(tmp_path):
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = (200, 100, 50)
    wide[:20, 20:60] = (10, 20, 30)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = np.frombuffer(decode(tmp_path / "wide.png", 16, 3), np.uint8).reshape(3, 16, 16)
    assert found[:, 2, 8].tolist() == [10, 20, 30]
    assert found[:, 13, 1].tolist() == [200, 100, 50]
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    Image.fromarray(wide).save(tmp_path / "turned.png", exif=turned)
    assert np.frombuffer(decode(tmp_path / "turned.png", 16, 3), np.uint8).reshape(3, 16, 16)[0, 13, 8] == 10
    grey = np.frombuffer(decode(tmp_path / "wide.png", 16, 1), np.uint8)
    assert grey.size == 256


def test_train_and_test_folders_are_the_split(tmp_path):
    write_classes(tmp_path / "set" / "train", count=25)
    write_classes(tmp_path / "set" / "val", count=3)
    images = load(tmp_path / "set", tmp_path)
    assert (len(images.train_labels), len(images.test_labels)) == (50, 6)
    assert images.origin["split"] == "the folder's own: train and val"
    (tmp_path / "set" / "val" / "dog").rename(tmp_path / "set" / "val" / "dogs")
    with pytest.raises(WrongUse, match="dog is missing in either train or val"):
        load(tmp_path / "set", tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "left"),
    [
        ("train", "valid", ()),
        ("Training", "Testing", ()),
        ("TRAIN", "dev", ()),
        ("train", "test", ("valid",)),
        ("training_set", "test_set", ()),
        ("seg_train", "seg_test", ()),
        ("Train 2017", "val2017", ()),
        ("train", "eval", ()),
    ],
)
def test_names_of_splits_are_no_classes(tmp_path, train, test, left):
    root = tmp_path / "set"
    write_classes(root / train, count=25)
    for name in (test, *left):
        write_classes(root / name, count=3)
    lines = []
    images = load(root, tmp_path, warn=lines.append)
    assert images.preprocessing.class_names == ("cat", "dog")
    assert (len(images.train_labels), len(images.test_labels)) == (50, 6)
    assert lines == [f"{root}: train and test are the split; left out: valid" for _ in left]


def test_splits_by_other_names_are_warned_of(tmp_path):
    root = tmp_path / "set"
    for name in ("entrenamiento", "prueba"):
        write_classes(root / name, count=25)
    lines = []
    assert load(root, tmp_path, warn=lines.append).preprocessing.class_names == ("entrenamiento", "prueba")
    assert len(lines) == 1
    assert "each class holds the same folders (cat, dog), as splits do" in lines[0]


def test_folder_around_the_classes_is_named_and_so_is_a_link_to_itself(tmp_path):
    write_classes(tmp_path / "set" / "images", count=25)
    with pytest.raises(
        WrongUse, match=r"a single class \(images\).*; if the classes lie in it, name folder:.*/set/images"
    ):
        load(tmp_path / "set", tmp_path)
    (tmp_path / "set" / "images" / "all").symlink_to(".")
    with pytest.raises(WrongUse, match=r"images/all is a link to a folder that it lies in; remove it"):
        load(tmp_path / "set" / "images", tmp_path)


def test_a_pipe_is_no_image_and_holds_nothing_up(tmp_path):
    root = write_classes(tmp_path / "set", count=25)
    os.mkfifo(root / "cat" / "pipe.png")
    with pytest.raises(WrongUse, match=r"pipe\.png is no image that can be read here"):
        load(root, tmp_path)


def test_half_of_a_split_is_no_class_and_a_class_of_trains_is(tmp_path):
    write_classes(tmp_path / "set" / "train", count=30)
    write_classes(tmp_path / "set" / "unlabelled", count=3)
    with pytest.raises(WrongUse, match=r"train holds folders like half of a split.*name folder:.*/train to have"):
        load(tmp_path / "set", tmp_path)
    images = load(write_classes(tmp_path / "vehicles", ("car", "train")), tmp_path)
    assert images.preprocessing.class_names == ("car", "train")


def test_what_file_managers_leave_is_no_class_and_no_image(tmp_path):
    root = write_classes(tmp_path / "pets")
    for folder in ("__MACOSX/cat", ".git/x", "cat/__MACOSX", "dog/.ipynb_checkpoints", "@eaDir"):
        (root / folder).mkdir(parents=True)
        picture(9, 9, 1).save(root / folder / "left.png")
    images = load(root, tmp_path)
    assert images.preprocessing.class_names == ("cat", "dog")
    assert len(images.train_labels) + len(images.test_labels) == 60


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("ink", [0, 90])
def test_transparent_images_are_seen_on_white(tmp_path, mode, ink):
    alpha = np.zeros((20, 20), np.uint8)
    alpha[5:15] = 255
    image = Image.fromarray(np.dstack([np.full((20, 20, 3), ink, np.uint8), alpha]), "RGBA")
    image.convert(mode).save(tmp_path / "glyph.png")
    found = np.frombuffer(decode(tmp_path / "glyph.png", 20, 3), np.uint8).reshape(3, 20, 20)
    assert (found[:, 0] == 255).all()
    assert (found[:, 10] == ink).all()
    assert "transparent pixels on white" in BEFORE


def test_class_without_anything_to_see_is_warned_of_and_a_set_without_is_refused(tmp_path):
    root = write_classes(tmp_path / "glyphs")
    for path in (root / "dog").iterdir():
        path.unlink()
    for index in range(30):
        clear = np.zeros((20, 20, 4), np.uint8)
        clear[..., :3] = 255
        clear[index % 10 : 15, :, 3] = 255
        Image.fromarray(clear).save(root / "dog" / f"{index}.png")
    lines = []
    load(root, tmp_path, warn=lines.append)
    assert lines == [f"{root}: every image of the class dog is of a single colour; what it shows may be white on clear"]
    shutil.rmtree(root / "cat")
    shutil.copytree(root / "dog", root / "cat")
    with pytest.raises(InvalidValue, match="all training images has a single value"):
        load(root, tmp_path)


def test_jpegs_of_other_names_are_seen_and_what_cannot_be_read_is_said_with_what_converts_it(tmp_path):
    root = write_classes(tmp_path / "pets")
    for path in (root / "cat").glob("*.jpg"):
        path.rename(path.with_suffix(".jfif"))
    assert load(root, tmp_path).test_labels.bincount().tolist() == [5, 5]
    for path in (root / "dog").iterdir():
        path.rename(path.with_name("my " + path.name).with_suffix(".heic"))
    converts = r"my 00\.heic.*, which `magick 'my 00\.heic' 'my 00\.jpg'` converts"
    for skip_broken in (False, True):
        with pytest.raises(WrongUse, match=converts):
            load(root, tmp_path, skip_broken=skip_broken)
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    assert "`magick FILE -depth 8 FILE` converts" in decode(tmp_path / "deep.png", 8, 3)


def test_link_to_nothing_is_a_broken_image_until_its_file_is_there(tmp_path):
    root = write_classes(tmp_path / "pets")
    link, file = root / "cat" / "zz.png", tmp_path / "annex.png"
    link.symlink_to(file)
    with pytest.raises(
        WrongUse, match=r"zz\.png cannot be decoded: it links to a file that is not there; `git annex get`"
    ):
        load(root, tmp_path)
    assert load(root, tmp_path, skip_broken=True).origin["skipped"] == ["cat/zz.png"]
    picture(9, 9, 1).save(file)
    assert load(root, tmp_path).origin["skipped"] == []
    (root / "cat" / "00.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(WrongUse, match="pointer of Git LFS, to be replaced by `git lfs pull`"):
        load(root, tmp_path)


def test_decoded_images_come_from_the_cache_until_a_file_changes_or_the_cache_is_damaged(tmp_path):
    root = write_classes(tmp_path / "pets")
    first = load(root, tmp_path).fingerprint
    (cached,) = (tmp_path / "cache").rglob("*.u8")
    written_ns = cached.stat().st_mtime_ns
    assert load(root.rename(tmp_path / "moved"), tmp_path).fingerprint == first
    assert cached.stat().st_mtime_ns == written_ns
    content = bytearray(cached.read_bytes())
    content[100] ^= 1
    cached.write_bytes(content)
    assert load(tmp_path / "moved", tmp_path).fingerprint == first
    picture(33, 33, 7).save(tmp_path / "moved" / "cat" / "00.jpg")
    assert load(tmp_path / "moved", tmp_path).fingerprint != first


def break_some(root):
    whole = (root / "cat" / "00.jpg").read_bytes()
    (root / "cat" / "00.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "01.png").write_bytes(b"")
    (root / "dog" / "notes.txt").write_text("not a picture")
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(root / "dog" / "deep.png")


def test_broken_images_are_named_or_left_out_counted_and_listed(tmp_path):
    root = write_classes(tmp_path / "pets")
    break_some(root)
    with pytest.raises(WrongUse, match=r"notes\.txt is no image .*--skip-broken"):
        load(root, tmp_path)
    (root / "dog" / "notes.txt").unlink()
    with pytest.raises(WrongUse, match=r"\.(jpg|png) cannot be decoded: .*it and 2 more, .*--skip-broken") as refused:
        load(root, tmp_path)
    assert refused.value.exit_code == 2
    lines = []
    images = load(root, tmp_path, skip_broken=True, warn=lines.append)
    assert images.origin["skipped"] == ["cat/00.jpg", "dog/01.png", "dog/deep.png"]
    assert lines == [f"left out 3 unreadable files of {root}: cat/00.jpg, dog/01.png, dog/deep.png"]
    assert len(images.train_labels) + len(images.test_labels) == 58
    assert len(images.train_labels) == len(images.train_images) == len(images.origin["train_files"])


@pytest.mark.parametrize(
    ("classes", "count", "message"),
    [
        ((), 0, "no class folders"),
        (("cat",), 30, r"a single class \(cat\)"),
        (("cat", "dog"), 4, "cat has 3 images to train on and 1 to test with; a class needs 5"),
        (("cat", "dog"), 6, "has 10 images to train on; a search needs 40"),
    ],
)
def test_a_folder_that_nothing_can_be_learned_from_says_why(tmp_path, classes, count, message):
    root = tmp_path / "pets"
    root.mkdir()
    write_classes(root, classes, count)
    with pytest.raises(WrongUse, match=message):
        load(root, tmp_path)


def test_an_empty_class_is_named(tmp_path):
    root = write_classes(tmp_path / "pets")
    (root / "bird").mkdir()
    with pytest.raises(WrongUse, match="the class bird is empty"):
        load(root, tmp_path)
    with pytest.raises(WrongUse, match="no such folder"):
        load(tmp_path / "nowhere", tmp_path)


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path):
    root = write_classes(tmp_path / "pets")
    (root / "cat" / "00.jpg").rename(root / "cat" / "caf\udce9.jpg")  # Latin-1, as old archives have it
    with pytest.raises(WrongUse, match=r"is no text: 'cat/caf\\udce9\.jpg'; rename it"):
        load(root, tmp_path)


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path):
    root = write_classes(tmp_path / "pets")
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(LutnasError, match=r"cannot keep decoded images in .*LUTNAS_CACHE_DIR"):
        load(root, tmp_path)


def test_images_too_many_for_memory_give_the_same_batches(tmp_path, digits):
    mapped = load(write_classes(tmp_path / "pets"), tmp_path)
    for images, resolution in ((mapped, 16), (mapped, 8), (digits, 8)):
        indices = splits(images, 0).train
        whole = Stream(images, indices, resolution, 8, 3, "weights")
        piecewise = Stream(images, indices, resolution, 8, 3, "weights", most_bytes=0)
        assert torch.equal(whole.batch(5)[0], piecewise.batch(5)[0])
        assert torch.equal(whole.batch(5)[1], piecewise.batch(5)[1])
