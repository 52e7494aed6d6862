from collections import Counter
from dataclasses import replace

import pytest
import torch

from search.alphas.path_sampling import UniformSampler, sample_path, with_floor
from search.config import Config
from search.process.progress import SilentProgress
from search.runs.run_directory import RunDirectory
from search.training.training import Trainer
from shared.errors import InvalidValue, UnknownName
from shared.spaces import make_space


def test_a_floor_keeps_every_primitive_in_the_draw(space):
    alpha = torch.full((6, 5), -50.0)
    alpha[:, 1] = 50.0
    odds = torch.softmax(with_floor(alpha, 0.2), dim=1)
    torch.testing.assert_close(odds[:, 0], torch.full((6,), 0.04))
    torch.testing.assert_close(odds[:, 1], torch.full((6,), 0.84))
    random = torch.Generator().manual_seed(0)
    drawn = Counter(name for _ in range(200) for name in sample_path(with_floor(alpha, 0.2), space, random).choices)
    assert set(drawn) == set(space.slots[0].primitives)


def test_without_a_floor_alpha_stays_the_very_same():
    alpha = torch.randn(6, 5)
    assert with_floor(alpha, 0.0) is alpha


@pytest.mark.parametrize("name", ["nas-bench-201", "darts", "fbnet", "nas-bench-macro"])
def test_uniform_paths_are_connected_repeatable_and_even(name):
    space = make_space(name, resolution=32, channels=8, depth={"darts": 3, "nas-bench-macro": 3}.get(name, 1))
    sampler = UniformSampler(space, 3)
    paths = [sampler.path(i) for i in range(300)]
    assert all(map(space.is_connected, paths))
    assert [UniformSampler(space, 3).path(i) for i in (0, 7)] == [paths[0], paths[7]]
    chosen = Counter(choice for path in paths for choice in path.choices if choice != "none")
    assert max(chosen.values()) < 1.5 * min(chosen.values())


def test_an_auxiliary_skip_falls_to_nothing_over_the_search(tmp_path, config, table, digits):
    config = replace(config, auxiliary_skip=1.0)
    trainer = Trainer(RunDirectory.create(tmp_path / "run", config, table), digits)
    seen = []
    trainer.train(SilentProgress(), lambda: bool(seen.append(trainer._auxiliary_skip())))
    assert seen[0] == 1.0
    assert seen == sorted(seen, reverse=True)
    assert trainer._auxiliary_skip() == 0.0


@pytest.mark.parametrize(
    "change", [{"path_sampler": "uniform"}, {"exploration_floor": 0.3}, {"auxiliary_skip": 1.0}], ids=str
)
def test_each_means_against_collapse_changes_what_is_trained(tmp_path, config: Config, table, digits, change):
    weights = []
    for name, one in (("plain", config), ("changed", replace(config, **change))):
        trainer = Trainer(RunDirectory.create(tmp_path / name, one, table), digits)
        assert trainer.train(SilentProgress())
        weights.append(trainer.supernet.stem.conv.weight)
    assert not torch.equal(*weights)


def test_settings_against_collapse_outside_their_domain_are_refused_by_name(config: Config):
    with pytest.raises(InvalidValue, match="exploration-floor"):
        replace(config, exploration_floor=1.0)
    with pytest.raises(InvalidValue, match="auxiliary-skip"):
        replace(config, auxiliary_skip=-0.1)
    with pytest.raises(UnknownName, match="fair, uniform"):
        replace(config, path_sampler="biased")
