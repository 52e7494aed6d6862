from pathlib import Path

import numpy as np
import pytest

from search.data import ImageSet, load_images
from search.decoding.decoding import make_decoder
from search.latency.latency_model import LatencyModel
from search.process.progress import SilentProgress
from search.strategies import Bench
from shared.spaces import Space, make_space

NAS_BENCH_201 = make_space("nas-bench-201", resolution=8, channels=4, depth=1, image_channels=1)
DARTS = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)
FBNET = make_space("fbnet", resolution=8, channels=8, depth=1, classes=10, image_channels=1)
MACRO = make_space("nas-bench-macro", resolution=8, channels=4, depth=2, image_channels=1)
BUDGETS = 3
TINY = {"warmup_steps": 2, "search_steps": 3, "checkpoint_every": 2}


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return load_images("digits", 8, 1)


@pytest.fixture(params=[NAS_BENCH_201, DARTS, FBNET, MACRO], ids=lambda space: space.name)
def space(request) -> Space:
    return request.param


@pytest.fixture(scope="session")
def make_bench(digits, table_of, config_of):
    """Builds a bench of a space in a folder: a made-up table, digits, a few tiny updates."""

    def build(space: Space, folder: Path, stopped=lambda: False, **settings) -> Bench:
        table = table_of(space)
        config = config_of(table, digits, **{**TINY, **settings})
        decoder = make_decoder(LatencyModel(table), config.confidence)
        budgets_ms = tuple(np.geomspace(1.05 * decoder.smallest_ms, decoder.largest_ms, BUDGETS).tolist())
        folder.mkdir(parents=True, exist_ok=True)
        return Bench(config, table, digits, budgets_ms, folder, 8, SilentProgress(), stopped=stopped)

    return build


@pytest.fixture
def bench(make_bench, space, tmp_path) -> Bench:
    return make_bench(space, tmp_path / "bench")
