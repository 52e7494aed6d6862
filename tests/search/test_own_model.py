"""A user's own model: choices in it, what is said of it, and how it is refused."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from search import LayerChoice, freeze
from search.cli import main
from search.data.own_loaders import find_own_images
from search.own_model.examine import covering, examine
from search.own_model.layer_choice import find_choices
from search.own_model.model_file import find_loss, load_model
from search.own_model.onnx_export import to_onnx
from shared.errors import InvalidValue
from shared.spaces.op_key import Shape

IMAGE = Shape(3, 16, 16)


def conv(before, after, kernel=3, stride=1):
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def choice(name, **candidates):
    return LayerChoice(candidates or {"k3": conv(8, 8), "k5": conv(8, 8, 5), "skip": nn.Identity()}, name=name)


def chain(*layers, stem=None):
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return nn.Sequential(stem or conv(3, 8, stride=2), *layers, *head)


class Residual(nn.Module):
    """A choice in a block, a whole stage as a candidate, and a choice that is made in two places."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8)
        self.blocks = nn.ModuleList(choice(f"block{index}") for index in range(2))
        self.twice = nn.ModuleDict({"first": choice("width"), "second": choice("width")})
        self.stage = choice("depth", short=conv(8, 16, stride=2), long=nn.Sequential(conv(8, 8), conv(8, 16, 1, 2)))
        self.head = nn.Linear(16, 7)

    def forward(self, images):
        x = self.stem(images)
        for block in self.blocks:
            x = x + block(x)
        x = self.stage(self.twice["second"](self.twice["first"](x)))
        if x.shape[-1] > 1:  # depends on shapes alone
            x = x.mean((2, 3))
        return self.head(x)


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(0)
    return Residual()


def test_choices_anywhere_in_the_tree_are_found_and_those_of_a_name_decided_together(residual):
    own = examine(residual, IMAGE)
    assert [one.name for one in own.choices] == ["block0", "block1", "width", "depth"]
    assert list(own.choices[2].places) == ["twice.first", "twice.second"]
    assert (own.networks, own.classes) == (3 * 3 * 3 * 2, 7)
    assert residual.training


def test_the_space_is_known_by_its_graphs_not_by_its_weights(residual):
    first = examine(residual, IMAGE).space
    assert str(first).startswith("own/")
    assert first.candidates == (3, 3, 3, 2)
    assert examine(Residual(), IMAGE).space == first
    assert examine(Residual(), Shape(3, 24, 24)).space != first
    other = Residual()
    other.blocks[1].candidates[1][0].dilation = (2, 2)
    other.blocks[1].candidates[1][0].padding = (4, 4)
    assert examine(other, IMAGE).space != first


def test_a_frozen_network_is_the_users_own_modules_with_their_weights(residual):
    genotype = {"block0": "k5", "block1": "skip", "width": "k3", "depth": "long"}
    network = freeze(residual, genotype)
    assert not any(isinstance(module, LayerChoice) for module in network.modules())
    assert {name for name in network.state_dict() if name.startswith("blocks")} == {
        f"blocks.0.{name}" for name in residual.blocks[0].candidates[1].state_dict()
    }
    for place in residual.modules():
        if isinstance(place, LayerChoice):
            place.chosen = place.names.index(genotype[place.name])
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = residual.eval()(images)
        assert torch.equal(network.eval()(images), expected)
        model = to_onnx(network, images)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.allclose(ours, expected.numpy(), atol=1e-4)
    residual.train()
    for place in residual.modules():
        if isinstance(place, LayerChoice):
            place.chosen = 0


def test_training_a_frozen_copy_leaves_the_model_alone(residual):
    before = {name: tensor.clone() for name, tensor in residual.state_dict().items()}
    network = freeze(residual, {"block0": "k3", "block1": "k3", "width": "k5", "depth": "short"})
    network(torch.randn(4, 3, 16, 16)).sum().backward()
    with torch.no_grad():
        for weight in network.parameters():
            weight += 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in residual.state_dict().items())


def test_a_model_that_is_a_choice_itself_and_one_module_in_two_places():
    whole = choice("all", small=chain(), large=chain(conv(8, 8)))
    assert examine(whole, IMAGE).networks == 2
    assert isinstance(freeze(whole, {"all": "large"}), nn.Sequential)
    tied = choice("tied")
    twice = chain(tied, tied)
    assert not any(isinstance(module, LayerChoice) for module in freeze(twice, {"tied": "k5"}).modules())


def test_few_networks_hold_every_candidate(residual):
    choices = find_choices(residual)
    held = {(name, candidate) for network in covering(choices) for name, candidate in network.items()}
    assert held == {(one.name, candidate) for one in choices for candidate in one.candidates}
    assert len(list(covering(choices))) == 3


@pytest.mark.parametrize(
    ("genotype", "says"),
    [
        ({"a": "k3"}, "genotype: leaves choice 'b' open (choices: a, b)"),
        ({"a": "k3", "b": "k3", "c": "k3"}, "genotype: there is no choice 'c' (choices: a, b)"),
        ({"a": "k3", "b": "k9"}, "genotype: 'k9' is no candidate of choice 'b' (k3, k5, skip)"),
    ],
)
def test_a_genotype_that_does_not_fit_is_refused(genotype, says):
    with pytest.raises(InvalidValue) as refusal:
        freeze(chain(choice("a"), choice("b")), genotype)
    assert str(refusal.value) == says


# --- what is wrong with a model ---------------------------------------------------------------------------------------


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.mean() > 0 else -x


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x).real


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = choice("a")

    def forward(self, x, y):
        return self.layer(x + y)


class Twice(nn.Module):
    def forward(self, x):
        return x, x


class Single(nn.Module):
    def forward(self, x):
        return x.view(1, -1)


def shared():
    one = conv(8, 8)
    return chain(choice("a", first=one, second=nn.Sequential(one, nn.ReLU())))


REFUSED = {
    "no choice": (lambda: chain(), "model: has no LayerChoice: mark a choice"),
    "a choice with one candidate": (lambda: choice("a", k3=conv(8, 8)), "choice 'a': has 1 candidates"),
    "no module": (lambda: choice("a", k3=conv(8, 8), k5=F.relu), "choice 'a': its candidate 'k5' is a function"),
    "a name with a comma": (lambda: LayerChoice({"k3": conv(8, 8), "k,5": conv(8, 8)}, name="a"), "'k,5' is no name"),
    "other candidates": (
        lambda: chain(choice("a"), choice("a", k3=conv(8, 8), k7=conv(8, 8, 7))),
        "choice 'a' at 2: has the candidates k3, k7, at 1 it has k3, k5, skip",
    ),
    "a choice in a candidate": (
        lambda: chain(choice("a", k3=conv(8, 8), deep=nn.Sequential(conv(8, 8), choice("b")))),
        "choice 'b' at 1.candidates.1.1: stands in a candidate of choice 'a'",
    ),
    "other shapes": (
        lambda: chain(choice("a", k3=conv(8, 8), half=conv(8, 8, stride=2))),
        "choice 'a' at 1: candidate 'half' gives 2x8x4x4 where 'k3' gives 2x8x8x8",
    ),
    "a candidate that fails": (
        lambda: chain(choice("a", k3=conv(8, 8), wide=nn.Sequential(conv(16, 8)))),
        "model: 1, candidate 'wide'.0.0 does not run (a tensor of 2x8x8x8): ",
    ),
    "a candidate that gives a tuple": (
        lambda: chain(choice("a", k3=conv(8, 8), two=Twice())),
        "choice 'a' at 1: candidate 'two' gives a tuple, not a tensor",
    ),
    "noise": (
        lambda: chain(choice("a", k3=conv(8, 8), noise=Noisy())),
        "choice 'a' at 1: candidate 'noise' changes its output between two calls",
    ),
    "noise beside the choices": (
        lambda: nn.Sequential(Noisy(), chain(choice("a"))),
        "model: changes its output between two calls",
    ),
    "no number": (
        lambda: nn.Sequential(chain(choice("a")), nn.Threshold(torch.inf, torch.nan)),
        "model: the network {'a': 'k3'} gives logits that are not finite",
    ),
    "TorchScript": (
        lambda: chain(torch.jit.trace(nn.ReLU(), torch.ones(1)), choice("a")),
        "model: 1 is compiled: give the module as it was before",
    ),
    "torch.compile": (lambda: torch.compile(chain(choice("a"))), "model: the model itself is compiled: give the"),
    "control flow": (
        lambda: chain(choice("a", k3=conv(8, 8), branch=Branching())),
        "model: 1: what it computes, or in which shape, depends on the values of its input",
    ),
    "no ONNX": (
        lambda: chain(choice("a", k3=conv(8, 8), fourier=nn.Sequential(conv(8, 8), Fourier()))),
        "model: 1.1 in the network {'a': 'fourier'}: torch.onnx does not export it: ",
    ),
    "half precision": (lambda: chain(choice("a")).half(), "model: 0.0.weight is torch.float16: give the model in"),
    "another device": (lambda: chain(choice("a")).to("meta"), "model: 0.0.weight lies on meta: give the model on the"),
    "shared weights": (shared, "choice 'a' at 1: candidate 'second' shares 0.0.weight with candidate 'first' of"),
    "two inputs": (TwoInputs, "model: does not take one input, a tensor of images: missing a required argument: 'y'"),
    "no logits": (
        lambda: nn.Sequential(conv(3, 8), choice("a")),
        "model: gives a tensor of 2x8x16x16 for 2 images, not a row of logits for each",
    ),
    "two outputs": (lambda: nn.Sequential(chain(choice("a")), Twice()), "model: gives a tuple for 2 images"),
    "one image alone": (lambda: nn.Sequential(chain(choice("a")), Single()), "model: gives a tensor of 1x10 for 2"),
    "a map that vanishes": (
        lambda: chain(*(nn.MaxPool2d(2) for _ in range(4)), choice("a")),
        "model: 4 does not run (a tensor of 2x3x16x16): ",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_with_a_model_is_said_in_a_line_that_names_the_place(name, capfd):
    make, says = REFUSED[name]
    with pytest.raises(InvalidValue) as refusal:
        examine(make(), IMAGE)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not any(capfd.readouterr())


def test_a_choice_that_never_runs_is_refused():
    model = chain(choice("a"))
    model.register_module("unused", choice("b"))
    model.forward = lambda x: nn.Sequential.forward(nn.Sequential(*list(model)[:-1]), x)
    with pytest.raises(InvalidValue, match="choice 'b' at unused: never runs"):
        examine(model, IMAGE)


# --- the file that makes it -------------------------------------------------------------------------------------------

MODEL = """
from torch import nn

from blocks import block
from search import LayerChoice


def make_model() -> nn.Module:
    layers = (LayerChoice({"k3": block(3), "k5": block(5), "skip": nn.Identity()}, name=f"block{i}") for i in range(8))
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


def broken():
    return nn.Sequential(
        LayerChoice({"k3": block(3)}, name="alone"),
    )


def nothing():
    pass


number = 3
"""
BLOCKS = "from torch import nn\n\n\ndef block(kernel):\n    return nn.Conv2d(4, 4, kernel, padding=kernel // 2)\n"


@pytest.fixture
def model_file(tmp_path, monkeypatch):
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "my_model.py").write_text(MODEL)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "blocks", raising=False)
    return tmp_path / "my_model.py"


def test_the_command_says_what_a_model_offers_the_same_in_every_process(model_file, capsys):
    command = ["space", f"{model_file}:make_model", "--input", "3x16x16"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "networks  6,561, of 8 choices, 10 classes\n  block0: k3, k5, skip\n" in said
    anew = subprocess.run(
        [sys.executable, "-m", "search", *command], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (anew.stdout, anew.stderr) == (said, "")


def test_a_model_has_the_same_weights_each_time_it_is_made(model_file):
    first, second = (load_model(f"{model_file}:make_model").state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("my_model.py", "model: 'my_model.py' does not read FILE.py:FUNCTION"),
        ("other.py:make_model", "model: there is no file other.py"),
        ("my_model.py:make", "model: my_model.py has no function make"),
        ("my_model.py:number", "model: my_model.py has no function number"),
        ("my_model.py:nothing", "model: nothing of my_model.py returns a NoneType, no nn.Module"),
        (
            "my_model.py:broken",
            """line 15 (LayerChoice({"k3": block(3)}, name="alone"),): choice 'alone': has 1 cand""",
        ),
        ("bad.py:make_model", "model: bad.py line 2 (import no_such_thing): ModuleNotFoundError: No module named"),
        ("worse.py:make_model", "model: worse.py line 1 (def make_model(:): SyntaxError: "),
        ("ends.py:make_model", "model: ends.py line 2 (sys.exit(3)): SystemExit: 3"),
    ],
)
def test_a_file_that_makes_no_model_is_refused_with_its_own_line(model_file, monkeypatch, capsys, where, says):
    monkeypatch.chdir(model_file.parent)
    Path("bad.py").write_text("import os\nimport no_such_thing\n")
    Path("worse.py").write_text("def make_model(:\n    pass\n")
    Path("ends.py").write_text("import sys\nsys.exit(3)\n")
    assert main(["space", where, "--input", "3x16x16"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_an_input_that_is_no_shape_is_refused(model_file, capsys):
    for text in ("3x96", "3x0x8", "wide"):
        assert main(["space", f"{model_file}:make_model", "--input", text]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_page_about_own_models_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "tutorials" / "own-model.md").read_text(encoding="utf-8")
    model, pipeline, freezing = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    command, _ = re.findall(r"^\$ search (.*)$", page, flags=re.MULTILINE)
    (tmp_path / "my_model.py").write_text(model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    assert main(command.split()) == 0
    said = capsys.readouterr().out.partition("\n")[2]
    assert said.partition("  block1")[0] in page
    exec(freezing, {})
    assert capsys.readouterr().out == "torch.Size([2, 10])\n"
    (tmp_path / "my_model.py").write_text(model + pipeline)
    images = find_own_images("my_model.py:make_model", Shape(3, 32, 32), 10)
    assert (len(images.train_labels), len(images.test_labels)) == (600, 100)
    assert float(find_loss("my_model.py:make_model", 10).mark) > 0


def test_networks_are_exported_in_several_threads(residual):
    own = examine(residual, IMAGE)
    genotypes = [own.space.parse(text) for text in ("0.1.2.0", "2.0.0.1", "1.1.1.1", "0.0.0.0")]
    alone = [own.export(genotype) for genotype in genotypes]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(own.export, genotypes)) == alone


def test_a_network_that_does_not_train_is_refused():
    linear = choice("block0", conv=nn.Conv2d(8, 8, 1), skip=nn.Identity())
    model = chain(linear, nn.ReLU(inplace=True))  # changes what the ReLU before a skip has kept
    with pytest.raises(InvalidValue, match=r"the network \{'block0': 'skip'\} does not train: .* inplace operation"):
        examine(model, IMAGE)
