import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


@pytest.fixture(scope="session")
def config(table: LatencyTable, digits: ImageSet) -> Config:
    return Config(
        lut_url="http://127.0.0.1:1",
        space=table.space,
        tables=references([table]),
        dataset=digits.name,
        data_fingerprint=digits.fingerprint,
        search_resolution=8,
        warmup_steps=6,
        whole_space=0,
        search_steps=8,
        alpha_every=2,
        batch_size=16,
        alpha_batch_size=8,
        threads=1,
        checkpoint_every=5,
    )


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
