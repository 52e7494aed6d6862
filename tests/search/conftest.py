import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from search.config import Config, references
from search.data import ImageSet, load_images
from shared.runtime import Runtime
from shared.spaces import Space, make_space
from shared.spaces.op_key import OpKey
from shared.spaces.primitives import multiply_adds
from shared.tables.table import LatencyTable, OpPrice
from shared.wire import canonical_json


def build_table(space: Space, price_ms: Callable[[OpKey], float], **fields) -> LatencyTable:
    """A table of these prices; `fields` replace those of `LatencyTable`."""
    keys = space.op_keys()
    prices = tuple(
        OpPrice(str(key), ms, 0.02 * ms, ms, ms, ms) for key, ms in zip(keys, map(price_ms, keys), strict=True)
    )
    size = len(prices) + 1
    covariance = tuple(tuple(1e-10 * (i == j) for j in range(size)) for i in range(size))
    default = {
        "device": "testbed",
        "runtime": Runtime("onnxruntime", "1.31.0"),
        "space": str(space),
        "canary": "canary:conv-v1",
        "canary_nominal_ms": 0.4,
        "agent_version": "0.1.0",
        "base_ms": 0.02,
        "prices": prices,
        "covariance": covariance,
        "relative_spread": 0.015,
        "held_out": None,
        "networks": (),
        "runs": ("run-1",),
    }
    return LatencyTable(**{**default, **fields})


def make_table(space: Space, device: str = "bench") -> LatencyTable:
    """Prices as on a small CPU: a pool costs about as much as a 1x1 convolution, a skip a little."""

    def price_ms(key: OpKey) -> float:
        per_pixel = {"skip_connect": 2e-7, "avg_pool_3x3": 2e-6}.get(key.primitive, 1e-6)
        return 1e-3 + per_pixel * area(key) + 2e-8 * multiply_adds(key)

    return build_table(space, price_ms, device=device, canary_nominal_ms=1.0, base_ms=0.05, relative_spread=0.02)


def draw_table(space: Space, seed: int = 0) -> LatencyTable:
    """Prices that grow with the work, no two alike, and a covariance that is not diagonal."""
    rng = np.random.default_rng(seed)

    def price_ms(key: OpKey) -> float:
        return (2e-3 + 4e-6 * area(key) + 3e-7 * multiply_adds(key)) * float(rng.uniform(0.8, 1.2))

    table = build_table(space, price_ms)
    root = 1e-4 * rng.standard_normal((len(table.covariance), len(table.covariance)))
    return replace(table, covariance=tuple(map(tuple, (root @ root.T).tolist())))


def area(key: OpKey) -> int:
    return key.output.height * key.output.width * key.output.channels


def make_config(table: LatencyTable, images: ImageSet, **settings) -> Config:
    """A search of a few tiny updates."""
    default = {
        "warmup_steps": 4,
        "search_steps": 4,
        "alpha_every": 2,
        "batch_size": 8,
        "alpha_batch_size": 8,
        "threads": 1,
        "checkpoint_every": 3,
    }
    return Config(
        lut_url="http://127.0.0.1:1",
        space=table.space,
        tables=references([table]),
        dataset=images.name,
        data_fingerprint=images.fingerprint,
        search_resolution=8,
        **{**default, **settings},
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


@pytest.fixture(scope="session")
def config(table: LatencyTable, digits: ImageSet) -> Config:
    return make_config(table, digits, warmup_steps=6, whole_space=0, search_steps=8, batch_size=16, checkpoint_every=5)


@pytest.fixture(scope="session")
def table_of():
    """Draws a table of a space."""
    return draw_table


@pytest.fixture(scope="session")
def config_of():
    """Makes a config of a table and images."""
    return make_config


class TableServer:
    """Answers as a table server does: each device's table, and the one error shape for any other device."""

    def __init__(self, *tables: LatencyTable) -> None:
        self.tables = {table.device: table for table in tables}
        known = self.tables

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = known.get(self.path.removeprefix("/v1/devices/").partition("/table")[0])
                message = f"unknown device (known: {', '.join(sorted(known))}); profiler-agent profile makes its table"
                error = {"error": {"code": "unknown_device", "message": message, "detail": {}}}
                body = json.dumps(error).encode() if found is None else canonical_json(found)
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., TableServer]]:
    """Start a server that has these tables."""
    servers = []

    def start(*tables: LatencyTable) -> TableServer:
        servers.append(TableServer(*tables))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
