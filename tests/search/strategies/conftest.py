from pathlib import Path

import numpy as np
import pytest
import torch

from search.config import Config, references
from search.data import ImageSet, load_images
from search.decoding.decoding import make_decoder
from search.latency.latency_model import LatencyModel
from search.process.progress import SilentProgress
from search.strategies import Bench
from shared.runtime import Runtime
from shared.spaces import Space, make_space
from shared.spaces.op_key import OpKey
from shared.spaces.primitives import multiply_adds
from shared.tables.table import LatencyTable, OpPrice

NAS_BENCH_201 = make_space("nas-bench-201", resolution=8, channels=4, depth=1, image_channels=1)
DARTS = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)
FBNET = make_space("fbnet", resolution=8, channels=8, depth=1, classes=10, image_channels=1)
BUDGETS = 3


def make_table(space: Space, seed: int = 0) -> LatencyTable:
    """Prices that grow with the work, no two alike, and a covariance that is not diagonal."""
    rng = np.random.default_rng(seed)
    keys = space.op_keys()

    def price_ms(key: OpKey) -> float:
        area = key.output.height * key.output.width * key.output.channels
        return (2e-3 + 4e-6 * area + 3e-7 * multiply_adds(key)) * float(rng.uniform(0.8, 1.2))

    costs = [price_ms(key) for key in keys]
    root = 1e-4 * rng.standard_normal((len(keys) + 1, len(keys) + 1))
    return LatencyTable(
        device="testbed",
        runtime=Runtime("onnxruntime", "1.31.0"),
        space=str(space),
        canary="canary:conv-v1",
        canary_nominal_ms=0.4,
        agent_version="0.1.0",
        base_ms=0.02,
        prices=tuple(OpPrice(str(k), c, 0.02 * c, c, c, c) for k, c in zip(keys, costs, strict=True)),
        covariance=tuple(map(tuple, (root @ root.T).tolist())),
        relative_spread=0.015,
        held_out=None,
        networks=(),
        runs=("run-1",),
    )


def make_config(table: LatencyTable, images: ImageSet, **settings) -> Config:
    short = {
        "warmup_steps": 2,
        "search_steps": 3,
        "alpha_every": 2,
        "batch_size": 8,
        "alpha_batch_size": 8,
        "threads": 1,
        "checkpoint_every": 2,
    }
    return Config(
        tables=references([table]),
        lut_url="http://127.0.0.1:1",
        space=table.space,
        dataset=images.name,
        data_fingerprint=images.fingerprint,
        search_resolution=8,
        **{**short, **settings},
    )


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return load_images("digits", 8, 1)


@pytest.fixture(params=[NAS_BENCH_201, DARTS, FBNET], ids=lambda space: space.name)
def space(request) -> Space:
    return request.param


@pytest.fixture(scope="session")
def table_of():
    return make_table


@pytest.fixture(scope="session")
def make_bench(digits):
    """Builds a bench of a space in a folder: a made-up table, digits, a few tiny updates."""

    def build(space: Space, folder: Path, stopped=lambda: False, **settings) -> Bench:
        table = make_table(space)
        config = make_config(table, digits, **settings)
        decoder = make_decoder(LatencyModel(table), config.confidence)
        budgets_ms = tuple(np.geomspace(1.05 * decoder.smallest_ms, decoder.largest_ms, BUDGETS).tolist())
        folder.mkdir(parents=True, exist_ok=True)
        return Bench(config, table, digits, budgets_ms, folder, 8, SilentProgress(), stopped=stopped)

    return build


@pytest.fixture
def bench(make_bench, space, tmp_path) -> Bench:
    return make_bench(space, tmp_path / "bench")
