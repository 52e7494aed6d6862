import random

import pytest
import torch
from torch import nn

from benchmarks.judging.nas_bench_macro_search import SPACE
from benchmarks.own_model.own_model import MODELS
from search.own_model.depth import find_depth
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from search.ranking.scoring import longest_path
from search.supernet.own_supernet import OwnSupernet
from shared.spaces import Genotype
from shared.spaces.op_key import Shape


def conv(before, after, kernel):
    return nn.Sequential(nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.BatchNorm2d(after), nn.ReLU())


class Branches(nn.Module):
    """Convolutions side by side, with a shortcut around them."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return x + sum(branch(x) for branch in self.branches)


class SqueezeAndExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.weigh = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1))

    def forward(self, x):
        return x * self.weigh(x).sigmoid()


@pytest.mark.parametrize(
    ("network", "depth"),
    [
        (nn.Identity(), 0),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 10)), 0),
        (nn.Sequential(conv(4, 8, 1), conv(8, 4, 1)), 0),
        (nn.Sequential(conv(4, 4, 3), conv(4, 4, 1), conv(4, 4, 5)), 2),
        (Branches(conv(4, 4, 3), nn.Sequential(conv(4, 4, 3), conv(4, 4, 3)), nn.Identity()), 2),
        (nn.Sequential(*(Branches(conv(4, 4, 3)) for _ in range(500))), 500),
        (nn.Sequential(conv(4, 4, 3), SqueezeAndExcite()), 1),
        (nn.Sequential(nn.ReLU(inplace=True), conv(4, 4, 3)), 1),
        (nn.Sequential(nn.ConvTranspose2d(4, 4, 2, 2), nn.MaxPool2d(3)), 1),
    ],
)
def test_depth_is_the_most_convolutions_in_a_row(network, depth):
    images = torch.zeros(2, 4, 8, 8)
    assert find_depth(network, images) == depth
    with torch.no_grad():
        assert find_depth(network.requires_grad_(False), images) == depth
    assert not images.requires_grad


def test_depth_orders_nas_bench_macro_written_as_a_users_model_as_the_space_that_is_built_in():
    own = examine(load_model(f"{MODELS / 'macro'}.py:make_model"), Shape(3, 32, 32))
    supernet, draw, apart = OwnSupernet(own), random.Random(0), set()
    for _ in range(20):
        genotype = SPACE.sample(draw)
        columns = Genotype(tuple(str(SPACE.candidates.index(choice)) for choice in genotype.choices))
        depth = find_depth(lambda x, path=columns: supernet(x, path), torch.zeros(2, 3, 16, 16))
        apart.add(depth - longest_path(SPACE, genotype))
    assert apart == {1}  # the stem
