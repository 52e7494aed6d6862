import pytest

from benchmarks.search import speed
from shared.spaces import make_space

RATES = {
    "darts": [40.0, 10.0],
    "gdas": [100.0, 200.0],
    "default": [400.0, 300.0],
    "every_step": [200.0, 100.0],
    "whole_resolution": [100.0, 100.0],
}


def test_a_ratio_is_the_mean_over_rounds_and_bars_are_those_of_the_depth():
    found = speed.rate_figures(RATES, 1, "x")
    assert found["x.vs_darts"].value == pytest.approx((400 / 40 + 300 / 10) / 2)
    assert found["x.vs_gdas.every_step"].value == pytest.approx((200 / 100 + 100 / 200) / 2)
    assert found["x.vs_darts"].n == 2
    assert found["x.default_images_per_s"].value == pytest.approx(350)
    assert found["x.darts_images_per_s"].bar == ">= 34"
    assert found["x.vs_darts"].bar is None
    assert speed.rate_figures(RATES, 5, "x")["x.vs_darts"].bar == ">= 15"


def test_every_contestant_is_timed_in_every_round():
    rates = speed.measured_rates(lambda line: None, make_space("nas-bench-201", resolution=8, channels=4, depth=1), 2)
    assert set(rates) == set(speed.UPDATES)
    assert all(len(listed) == 2 and min(listed) > 0 for listed in rates.values())
