import pytest
import torch

from search.config import Config
from search.data import ImageSet, load_images
from shared.op_key import OpKey
from shared.primitives import multiply_adds
from shared.runtime import Runtime
from shared.spaces import Space, make_space
from shared.table import LatencyTable, OpPrice


def make_table(space: Space, device: str = "bench") -> LatencyTable:
    """Prices as on a small CPU: a pool costs about as much as a 1x1 convolution, a skip a little."""

    def price_ms(key: OpKey) -> float:
        area = key.output.height * key.output.width * key.output.channels
        per_pixel = {"skip_connect": 2e-7, "avg_pool_3x3": 2e-6}.get(key.primitive, 1e-6)
        return 1e-3 + per_pixel * area + 2e-8 * multiply_adds(key)

    prices = tuple(
        OpPrice(str(key), price_ms(key), 1e-5, price_ms(key), price_ms(key), price_ms(key)) for key in space.op_keys()
    )
    size = len(prices) + 1
    return LatencyTable(
        device=device,
        runtime=Runtime("onnxruntime", "1.31.0"),
        space=str(space),
        canary="canary:conv-v1",
        canary_nominal_ms=1.0,
        agent_version="0.1.0",
        base_ms=0.05,
        prices=prices,
        covariance=tuple(tuple(1e-10 * (i == j) for j in range(size)) for i in range(size)),
        relative_spread=0.02,
        held_out=None,
        networks=(),
        runs=("run-1",),
    )


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def space() -> Space:
    return make_space("nas-bench-201", resolution=16, channels=4, depth=1)


@pytest.fixture(scope="session")
def table(space: Space) -> LatencyTable:
    return make_table(space)


@pytest.fixture(scope="session")
def digits(space: Space) -> ImageSet:
    return load_images("digits", space.resolution, space.image_channels)


@pytest.fixture
def config(table: LatencyTable, digits: ImageSet) -> Config:
    return Config(
        device=table.device,
        lut_url="http://127.0.0.1:1",
        space=table.space,
        table_hash=table.hash,
        dataset=digits.name,
        data_fingerprint=digits.fingerprint,
        search_resolution=8,
        warmup_steps=6,
        search_steps=8,
        alpha_every=2,
        batch_size=16,
        alpha_batch_size=8,
        threads=1,
        checkpoint_every=5,
    )
