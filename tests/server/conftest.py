import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import uvicorn

from lut_server.app import create_app
from lut_server.auth import ROLES, create_token
from lut_server.settings import Settings
from lut_server.sql import open_store
from shared.measurement import Measurement, Round, Run, Verdict
from shared.op_key import parse_op_key
from shared.plan import make_plan
from shared.runtime import Runtime
from shared.spaces import make_space

RUNTIME = Runtime("onnxruntime", "1.31.0")
SPACE = make_space("nas-bench-201", resolution=8, channels=4, cells_per_stage=1)
PLAN = make_plan(SPACE, calibration=8, held_out=4)


class FakeClock:
    """A clock whose hands are turned by the test."""

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


class Api:
    """A client of a real server, with a token of each role."""

    def __init__(self, url, store, clock):
        self.url = url
        self.store = store
        self.clock = clock
        self.http = httpx.Client(base_url=url, timeout=30)
        self.tokens = {role: create_token(store.tokens, role, clock=clock) for role in ROLES}

    def call(self, method, path, role="admin", token=None, **more):
        headers = dict(more.pop("headers", {}))
        token = token or self.tokens.get(role)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self.http.request(method, path, headers=headers, **more)

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def post(self, path, json=None, **more):
        return self.call("POST", path, json=json, **more)

    def put(self, path, json=None, **more):
        return self.call("PUT", path, json=json, **more)


@contextmanager
def serving(app):
    """A real uvicorn on a free loopback port, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield "http://127.0.0.1:{}".format(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def running(tmp_path, **settings):
    clock = FakeClock()
    settings = Settings(database_url=f"sqlite:///{tmp_path}/test.db", **settings)
    store = open_store(settings.database_url, clock)
    with serving(create_app(settings, clock, store)) as url:
        api = Api(url, store, clock)
        with api.http:
            yield api


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(tmp_path, clock):
    store = open_store(f"sqlite:///{tmp_path}/store.db", clock)
    yield store
    store.close()


@pytest.fixture
def api(tmp_path):
    with running(tmp_path) as api:
        yield api


def make_run(run_id="run-1", device="pi", **more):
    values = {
        "space": str(SPACE),
        "plan_id": PLAN.id,
        "canary": PLAN.canary,
        "agent_version": "0.1.0",
        "started_at": "2026-01-01T00:00:00+00:00",
        "probe": {"cpu": "a kettle"},
        "runtime": RUNTIME,
    }
    return Run(id=run_id, device=device, **{**values, **more})


def price_of(key):
    """Made-up true price of an op key, ms."""
    return {"skip_connect": 0.02, "avg_pool_3x3": 0.5, "nor_conv_1x1": 0.4, "nor_conv_3x3": 1.5}[key.primitive]


def latency_of(task):
    """Made-up true latency of a task, ms."""
    if task.role == "marginal":
        return price_of(parse_op_key(task.subject))
    counts = SPACE.op_counts(SPACE.parse(task.subject))
    return 3.0 + sum(price_of(key) * n for key, n in counts.items())


def measure(task, canary_ms=2.0, ms=None, rounds=6):
    """A measurement of a task on the made-up device, its id that of its task; every round has a little noise."""
    ms = latency_of(task) if ms is None else ms
    made = []
    for index in range(rounds):
        noisy = ms * (1 + 0.002 * (index - 2))
        minus = () if task.minus is None else (canary_ms,)
        graph = noisy * task.divisor + (canary_ms if minus else 0)
        made.append(Round(graph_ms=(graph,), canary_ms=(canary_ms,), minus_ms=minus))
    subject = f"{task.role}-{PLAN.tasks.index(task)}" if task in PLAN.tasks else task.role
    return Measurement(
        subject, task.subject, task.role, task.graph, task.minus, task.divisor, tuple(made), Verdict(True)
    )
