"""A user's own model as a supernet: its paths, its gates, and the layout that it trains in."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from search import LayerChoice
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from search.supernet.own_supernet import OwnSupernet
from shared.spaces.op_key import Shape
from tests.search.test_own_search import IMAGE, MODEL


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "my_model.py"
    path.write_text(MODEL, encoding="utf-8")
    return examine(load_model(f"{path}:make_model"), IMAGE)


@pytest.mark.parametrize(
    ("head", "layout"),
    [("x.view(len(x), -1)", torch.contiguous_format), ("x.flatten(1)", torch.channels_last)],
    ids=["neighbours are read", "any layout"],
)
def test_every_path_of_the_supernet_is_the_frozen_network_in_the_layout_that_the_model_bears(tmp_path, head, layout):
    path = tmp_path / "model.py"
    path.write_text(MODEL.replace("x.view(len(x), -1)", head), encoding="utf-8")
    own = examine(load_model(f"{path}:make_model"), IMAGE)
    assert own.layout == layout
    supernet = OwnSupernet(own).train()
    assert supernet.model.stem[0].weight.is_contiguous()  # of one channel both orders look alike
    assert supernet.model.block.candidates[0][0].weight.is_contiguous(memory_format=layout)
    images = torch.randn(4, 1, 8, 8)
    for text in ("0.0.0", "2.1.1", "1.0.2"):
        genotype = own.space.parse(text)
        network = own.freeze(genotype).train()
        for laid in (images, images.contiguous(memory_format=torch.channels_last)):
            assert torch.allclose(supernet(laid, genotype), network(images.contiguous()), atol=1e-5)
        derived = supernet.derive(genotype)
        assert derived.state_dict().keys() == network.state_dict().keys()
        assert own.parameter_count(genotype) == sum(weight.numel() for weight in network.parameters())
        assert all(norm.track_running_stats for norm in derived.modules() if isinstance(norm, nn.BatchNorm2d))


def test_a_model_that_computes_something_else_in_another_layout_keeps_its_own():
    class Strided(nn.Module):
        def forward(self, x):
            return x.as_strided(x.shape, (x[0].numel(), x[0, 0].numel(), x.shape[3], 1))

    choice = LayerChoice({"one": nn.Identity(), "two": nn.ReLU()}, name="choice")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), choice, Strided(), nn.Flatten(), nn.Linear(4 * 36, 10))
    assert examine(model, Shape(3, 8, 8)).layout == torch.contiguous_format
    del model[2]
    assert examine(model, Shape(3, 8, 8)).layout == torch.channels_last


@pytest.mark.parametrize(("channels", "layout"), [(7, torch.contiguous_format), (8, torch.channels_last)])
def test_a_narrow_strided_1x1_convolution_never_runs_in_channels_last(channels, layout):
    choice = LayerChoice({"one": nn.Identity(), "two": nn.ReLU()}, name="choice")
    shortcut = nn.Conv2d(channels, 16, 1, stride=2)
    model = nn.Sequential(nn.Conv2d(3, channels, 3), choice, shortcut, nn.Flatten(), nn.Linear(16 * 9, 10))
    assert examine(model, Shape(3, 8, 8)).layout == layout


def test_gates_get_the_gradient_of_the_written_out_mixture_and_repeated_columns_add_up(own):
    supernet = OwnSupernet(own).train()
    images = torch.randn(4, 1, 8, 8)
    gates = torch.zeros(3, 3)
    gates[[0, 1, 2], [1, 2, 0]] = 1  # column 2 of the second choice is its first candidate once more
    gates.requires_grad_()
    logits = supernet.straight_through(images, gates)
    assert torch.allclose(logits, supernet(images, own.space.parse("1.0.0")), atol=1e-6)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, torch.arange(4)), gates)
    assert gradient[1, 0] == gradient[1, 2] != 0
    assert gradient.abs().min() > 0


def test_threads_run_different_paths_at_the_same_time(own):
    supernet = OwnSupernet(own).train()
    images = torch.randn(2, 1, 8, 8)
    texts = ["0.0.0", "1.1.1", "2.0.2", "2.1.0"]
    alone = [supernet(images, own.space.parse(text)) for text in texts]
    found = [None] * len(texts)

    def work(place):
        for _ in range(20):
            found[place] = supernet(images, own.space.parse(texts[place]))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, other) for one, other in zip(alone, found, strict=True))
