"""`make_data()` and `make_loss()` of a user's own file: what is kept of them, and how they are refused."""

from pathlib import Path

import pytest
import torch
from torch import nn

from search import LayerChoice
from search.cli import main
from search.data import splits
from search.data.own_loaders import find_own_images
from search.data.stream import Stream
from search.own_model.examine import examine
from search.own_model.model_file import find_loss
from search.ranking.scoring import OwnJudge, ScoringSettings, scoring_images
from search.supernet.own_supernet import OwnSupernet
from shared.errors import InvalidValue
from shared.spaces.op_key import Shape

IMAGE, CLASSES = Shape(1, 8, 8), 10
FILE = """
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

from search import LayerChoice


def make_model():
    block = LayerChoice({"k3": nn.Conv2d(1, 4, 3, 1, 1), "k5": nn.Conv2d(1, 4, 5, 1, 2)}, name="block")
    return nn.Sequential(block, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


class Noisy(Dataset):
    def __init__(self, count, noise=0.1, shape=(1, 8, 8)):
        self.count, self.noise, self.shape = count, noise, shape

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        draws = torch.rand(()).item() + np.random.rand() + random.random()
        return torch.full(self.shape, index - 30.0 + self.noise * draws), index % 10


def same(train, test=None):
    return DataLoader(train, 16), DataLoader(test or Noisy(20, 0), 16)


"""
DATA = (
    FILE
    + """
def make_data():
    train = DataLoader(Noisy(100), batch_size=16, sampler=SubsetRandomSampler(range(20, 90)), num_workers=2)
    return train, DataLoader(Noisy(12, 0), batch_size=5, shuffle=True)
"""
)


@pytest.fixture
def own_file(tmp_path):
    def write(text):
        (tmp_path / "my_model.py").write_text(text)
        return f"{tmp_path / 'my_model.py'}:make_model"

    return write


def stored_index(images):
    """Of an item of `Noisy`, from any of its pixels."""
    return images[:, 0, 0, 0].floor().long() + 30


def test_the_items_of_the_loaders_are_read_once_as_they_are(own_file):
    images = find_own_images(own_file(DATA), IMAGE, CLASSES)
    assert stored_index(images.train_images).tolist() == list(range(20, 90))
    assert images.train_labels.tolist() == [index % 10 for index in range(20, 90)]
    assert torch.equal(images.test_images[:, 0, 0, 0], torch.arange(12) - 30.0)
    assert torch.equal(images.preprocessing.apply(images.test_images), images.test_images)
    assert images.title == "make_data:my_model.py"
    described = images.preprocessing.describe()
    assert described["input_range"] == "as make_data of my_model.py gives them"
    assert images.fingerprint == find_own_images(own_file(DATA), IMAGE, CLASSES).fingerprint
    changed = own_file(DATA.replace("range(20, 90)", "range(20, 91)"))
    assert find_own_images(changed, IMAGE, CLASSES).fingerprint != images.fingerprint
    assert find_own_images(own_file(FILE), IMAGE, CLASSES) is None


def test_training_draws_the_users_own_random_steps_anew_and_adds_none(own_file):
    images = find_own_images(own_file(DATA), IMAGE, CLASSES)
    train = splits(images, 0).train

    def stream(seed=0):
        return Stream(images, train, 8, 16, seed, "weights")

    batch, labels = stream().batch(5)
    assert torch.equal(batch, stream().batch(5)[0])
    assert (batch == batch[:, :, :1, :1]).all(), "neither shifted nor mirrored"
    assert torch.equal(stored_index(batch) % 10, labels)
    pixels = {}
    for number in range(3 * stream().batches_per_epoch):
        for image in stream().batch(number)[0]:
            pixels.setdefault(int(stored_index(image[None])), set()).add(float(image[0, 0, 0]))
    assert max(map(len, pixels.values())) == 3
    assert Stream(images, train, 4, 16, 0, "weights").batch(0)[0].shape == (16, 1, 4, 4)
    plain = Stream(images, train, 8, 16, 0, "tuning", augmented=False).batch(0)[0]
    assert set(plain[:, 0, 0, 0].tolist()) <= set(images.train_images[:, 0, 0, 0].tolist())


@pytest.fixture
def refuse(capsys, monkeypatch):
    """Gives the line with which a search refuses a model's file."""

    def said_of(where):
        monkeypatch.chdir(Path(where).parent)
        command = ["--model", "my_model.py:make_model", "--input", "1x8x8", "--device", "bench"]
        assert main([*command, "--lut-url", "http://127.0.0.1:9"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    return said_of


WRONG_DATA = {
    "a single loader": ("return same(Noisy(90))[0]", "of FILE returns DataLoader, not two DataLoaders (training,"),
    "three": ("return (*same(Noisy(90)), 3)", "returns DataLoader, DataLoader, int, not two DataLoaders"),
    "data sets": ("return Noisy(90), Noisy(20)", "returns Noisy, Noisy, not two DataLoaders"),
    "a stream": (
        "class Stream(IterableDataset):\n        __iter__ = None\n    return same(Stream())",
        "the training loader of FILE has no items by number in batches: give a Dataset",
    ),
    "no batches": ("return same(Noisy(90))[0], DataLoader(Noisy(90), None)", "the test loader of FILE has no items"),
    "few images": ("return same(Noisy(30))", "gives 30 images to train on and 20 to test; a search needs 40 and 1"),
    "another shape": (
        "return same(Noisy(90, shape=(3, 8, 8)))",
        "the training loader of FILE gives images 90x3x8x8 for 90 items, --input says 1x8x8",
    ),
    "images that fit no batch": (
        "return same([(torch.zeros(1, 8, side), side) for side in range(90)])",
        "RuntimeError: stack expects each tensor to be equal size",
    ),
    "other labels": (
        "return same(TensorDataset(torch.rand(90, 1, 8, 8), torch.arange(90) % 11))",
        "gives labels ((90,), torch.int64, at most 10) that are not a class from 0 to 9 for each image",
    ),
    "several labels": (
        "return same(TensorDataset(torch.rand(90, 1, 8, 8), torch.ones(90, 10)))",
        "gives labels ((90, 10), torch.float32, at most 1.0) that are not a class",
    ),
    "images alone": ("return same(TensorDataset(torch.rand(90, 1, 8, 8)))", "gives a list, not a pair of tensors"),
    "words": ('return same([(torch.rand(1, 8, 8), "cat")] * 90)', "gives a list, not a pair of tensors: images and"),
    "unseeded": (
        "draw = np.random.default_rng()\n    return same([(torch.rand(1, 8, 8) + draw.random(), 1)] * 90)",
        "gives other images each time: seed what draws apart from torch, numpy, random",
    ),
    "an error": ("return same(open('nowhere'))", "FILE line 36 (return same(open('nowhere'))): FileNotFoundError"),
    "an error inside": (
        "class Broken(Noisy):\n        def __getitem__(self, at):\n            1 / 0\n    return same(Broken(90))",
        "FILE line 38 (1 / 0): ZeroDivisionError: division by zero",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_DATA)
def test_what_is_wrong_with_the_data_is_said_in_a_line_before_anybody_is_asked(own_file, refuse, name):
    code, says = WRONG_DATA[name]
    where = own_file(f"{FILE}\ndef make_data():\n    {code}\n")
    said = refuse(where)
    assert "make_data: " in said
    assert says.replace("FILE", "my_model.py") in said


def test_more_images_than_memory_is_given_to_are_refused_unread(own_file):
    with pytest.raises(InvalidValue, match=r"82 images of 1x8x8 take 0.0 GiB of memory, more than 0.0: give fewer"):
        find_own_images(own_file(DATA), IMAGE, CLASSES, most_bytes=82 * 64 * 4 - 1)


WRONG_LOSS = {
    "no loss": ("return 3", "make_loss: TypeError: 'int' object is not callable"),
    "no number": (
        "return nn.CrossEntropyLoss(reduction='none')",
        "make_loss: the loss of FILE gives tensor([",
    ),
    "no tensor": ("return lambda logits, labels: 0.5", "make_loss: the loss of FILE gives 0.5, not a tensor of"),
    "no gradient": (
        "return lambda logits, labels: (logits.argmax(1) != labels).float().mean()",
        ", not a tensor of one number, with a finite gradient by the logits",
    ),
    "a gradient of nothing": ("return lambda logits, labels: 0 * logits.sum()", "with a finite gradient by the logits"),
    "a class too many": (
        "return nn.CrossEntropyLoss(weight=torch.ones(11))",
        "RuntimeError: weight tensor should be defined either for all 10 classes or no classes",
    ),
    "an error": ("return nowhere", "make_loss: FILE line 35 (return nowhere): NameError: name 'nowhere' is not"),
    "an error inside": (
        "def loss(logits, labels):\n        return F.mse_loss(logits, nowhere)\n    return loss",
        "make_loss: FILE line 36 (return F.mse_loss(logits, nowhere)): NameError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_LOSS)
def test_what_is_wrong_with_a_loss_is_said_in_a_line_before_anybody_is_asked(own_file, refuse, name):
    code, says = WRONG_LOSS[name]
    where = own_file(f"{FILE}def make_loss():\n    {code}\n")
    said = refuse(where)
    assert says.replace("FILE", "my_model.py") in said


def test_a_model_is_ranked_by_the_users_own_loss(own_file):
    where = own_file(
        f"{DATA}\n\ndef make_loss():\n    return lambda logits, labels: 2 * F.cross_entropy(logits, labels)\n"
    )
    loss, images = find_loss(where, CLASSES), find_own_images(where, IMAGE, CLASSES)
    block = LayerChoice({"k3": nn.Conv2d(1, 4, 3, 1, 1), "k5": nn.Conv2d(1, 4, 5, 1, 2)}, name="block")
    model = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    supernet = OwnSupernet(examine(model, IMAGE))
    ranking = scoring_images(images, 0, 8, ScoringSettings())
    genotype = supernet.space.parse("1")
    ours, theirs = (OwnJudge(supernet, ranking, judged).score(genotype) for judged in (loss, None))
    assert ours.nll == pytest.approx(2 * theirs.nll)
    assert loss.mark == find_loss(where, CLASSES).mark
