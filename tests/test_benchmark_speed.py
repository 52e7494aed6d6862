import pytest

from benchmarks import speed
from shared.spaces import make_space


def test_ratios_are_those_of_the_rates_and_bars_those_of_the_depth():
    found = speed.measured(lambda line: None, make_space("nas-bench-201", resolution=8, channels=4, depth=1), "x", 2)
    for name in speed.UPDATES:
        assert found[f"x.{name}_images_per_s"].value > 0
    for other in ("darts", "gdas"):
        ratio = found["x.default_images_per_s"].value / found[f"x.{other}_images_per_s"].value
        assert found[f"x.vs_{other}"].value == pytest.approx(ratio, rel=0.5)
        assert found[f"x.vs_{other}"].n == 2
    assert found["x.darts_images_per_s"].bar == ">= 34"
    assert found["x.vs_darts"].bar is None
