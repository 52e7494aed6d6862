import json
import random

import numpy as np
import pytest

from benchmarks.search.ablations import VARIANTS, Outcome, figures_of
from benchmarks.search.fmnist import SEEDS, SIZES, parameters_as_prices, trainings
from benchmarks.search.speed import nominal_table
from search.config import SETTINGS
from search.latency.latency_model import LatencyModel
from shared.spaces import make_space


def test_parameters_in_the_place_of_prices_predict_every_networks_count_exactly():
    space = make_space("darts", resolution=32, channels=16, depth=3, image_channels=1)
    draws = random.Random(0)
    networks = [space.fastest(), *(space.sample(draws) for _ in range(20))]
    model = LatencyModel(parameters_as_prices(nominal_table(space)))
    mean, sd = model.mean_and_sd_ms(networks)
    np.testing.assert_allclose(1000 * mean, [space.parameter_count(network) for network in networks], rtol=1e-9)
    assert sd.max() == 0


def test_the_smallest_size_holds_the_fewest_parameters_that_the_skeleton_can_have():
    space = make_space("darts", resolution=32, channels=16, depth=3, image_channels=1)
    fewest = space.parse(
        "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)"
        + ", ('skip_connect', 0), ('skip_connect', 1)" * 3
        + "], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)"
        + ", ('max_pool_3x3', 0), ('max_pool_3x3', 1)" * 3
        + "], reduce_concat=range(2, 6))"
    )
    assert space.parameter_count(fewest) == 20_954
    assert SIZES["20k"].fewest <= 20_954 <= SIZES["20k"].most


def test_unfinished_trainings_do_not_count(tmp_path):
    for seed, accuracy in enumerate([90.0, None, 91.0]):
        folder = tmp_path / "trained" / "abc" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "training.json").write_text(json.dumps({"test_accuracy": accuracy, "seed": seed}))
    assert [training["seed"] for training in trainings(tmp_path)] == [0, 2]
    assert SEEDS == 3


def test_ablations_change_settings_that_there_are_and_give_mean_and_spread():
    assert all(name in SETTINGS for changes in VARIANTS.values() for name in changes)
    figures = figures_of("x", [Outcome(0.5, 0.1, 3, 0.2, 0.4), Outcome(0.7, 0.3, 5, 0.2, 0.6)])
    assert figures["x.hv"].value == pytest.approx(0.6)
    assert figures["x.hv"].spread == pytest.approx(0.1 * 2**0.5)
    assert figures["x.named"].n == 2
