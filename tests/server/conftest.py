import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
import uvicorn

from benchmarks.server.postgres import PostgresMissing, PostgresServer
from lut_server.app import create_app
from lut_server.auth import create_token
from lut_server.serving import make_config
from lut_server.settings import Settings
from lut_server.store.sql import open_store
from shared.jobs import NewJob, Promise
from shared.measurements.measurement import Measurement, Round, Run, Verdict
from shared.measurements.plan import Task, make_plan
from shared.runtime import Runtime
from shared.search_result import ClimbedRung, FoundNetwork, SearchResult
from shared.spaces import make_space
from shared.spaces.op_key import parse_op_key
from shared.wire import to_wire

RUNTIME = Runtime("onnxruntime", "1.31.0")
SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
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
    """A client of a real server, with a token of each role that is asked for."""

    def __init__(self, url, store, clock):
        self.url = url
        self.store = store
        self.clock = clock
        self.http = httpx.Client(base_url=url, timeout=30)
        self.tokens = {}

    def token(self, role):
        if role not in self.tokens:
            self.tokens[role] = create_token(self.store.tokens, role, clock=self.clock)
        return self.tokens[role]

    def call(self, method, path, role="admin", token=None, **more):
        headers = dict(more.pop("headers", {}))
        token = token or (self.token(role) if role else None)
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
    config = make_config(app, app.state.services.settings, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def running(tmp_path, database_url=None, **settings):
    clock = FakeClock()
    settings = Settings(database_url=database_url or f"sqlite:///{tmp_path}/test.db", **settings)
    store = open_store(settings.database_url, clock)
    app = create_app(settings, clock, store)
    with serving(app) as url:
        api = Api(url, store, clock)
        api.app = app
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


@pytest.fixture(scope="session")
def postgres():
    """A real PostgreSQL with a migrated database `lutnas`, which is copied for each test."""
    try:
        server = PostgresServer()
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    try:
        server.start()
        open_store(server.create_database("lutnas", "template0")).close()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres):
    """An empty database at the newest schema."""
    return postgres.create_database(f"test_{uuid4().hex}", "lutnas")


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request, tmp_path):
    """A new database on each store."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path}/any.db"


@pytest.fixture
def any_store(any_url, clock):
    """The store over each database."""
    store = open_store(any_url, clock)
    yield store
    store.close()


@pytest.fixture
def serve_app():
    """Serves an application for a while: `with serve_app(app) as url`."""
    return serving


@pytest.fixture
def start(tmp_path):
    """Starts a server with the given settings: `with start(reads="closed") as api`."""
    return lambda **settings: running(tmp_path, **settings)


@pytest.fixture
def api(start):
    with start() as api:
        yield api


@pytest.fixture(scope="module")
def steady_api(tmp_path_factory):
    """A server for a module's tests that store nothing, with a device and a run to be refused things about."""
    with running(tmp_path_factory.mktemp("steady"), allowed_hosts="*") as api:
        api.post("/v1/devices", {"name": "pi", "probe": {}})
        api.put("/v1/runs/run-1", to_wire(Lab().run()))
        yield api


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A server with what pages show: a device with two tables, one that is silent, and jobs in several states."""
    with running(tmp_path_factory.mktemp("story")) as api:
        lab = Lab()
        lab.profile(api)
        api.clock.advance(3600)
        api.table = lab.profile(api, "run-2", runtime=Runtime("onnxruntime", "1.32.0"), canary_ms=2.1)
        api.post("/v1/devices", {"name": "pi", "probe": {"cpu": "<script>document.title='taken over'</script>"}})
        api.post("/v1/devices", {"name": "phone", "probe": {"note": "a-long-word-" * 30}})
        for target_ms in (50.0, 60.0):
            assert api.post("/v1/jobs", to_wire(lab.verify_job(api.table, target_ms))).status_code == 201
        api.post("/v1/jobs/lease", {"device": "pi", "owner": "agent-7", "lease_s": 600})
        api.post("/v1/searches", to_wire(lab.search_result(api.table["hash"])))
        yield api


@pytest.fixture
def lab():
    """The made-up device, its space and its plan."""
    return Lab()


class Lab:
    """A device whose true prices are known."""

    space, plan, runtime = SPACE, PLAN, RUNTIME

    def run(self, run_id="run-1", device="pi", **more):
        values = {
            "space": str(SPACE),
            "plan_id": PLAN.id,
            "canary": PLAN.canary,
            "agent_version": "0.1.0",
            "started_at": "2026-01-01T00:00:00+00:00",
            "probe": {"cpu": "a kettle"},
            "runtime": self.runtime,
        }
        return Run(id=run_id, device=device, **{**values, **more})

    def price_ms(self, key):
        return {"skip_connect": 0.02, "avg_pool_3x3": 0.5, "nor_conv_1x1": 0.4, "nor_conv_3x3": 1.5}[key.primitive]

    def latency_ms(self, task):
        if task.role == "marginal":
            return self.price_ms(parse_op_key(task.subject))
        counts = SPACE.op_counts(SPACE.parse(task.subject))
        return 3.0 + sum(self.price_ms(key) * n for key, n in counts.items())

    def measure(self, task, canary_ms=2.0, ms=None, rounds=6, **more):
        """A measurement of the task with a little noise in each round; its id is that of the task."""
        ms = self.latency_ms(task) if ms is None else ms
        made = []
        for index in range(rounds):
            noisy = ms * (1 + 0.002 * (index - 2))
            minus = () if task.minus is None else (canary_ms,)
            graph = noisy * task.divisor + (canary_ms if minus else 0)
            made.append(Round(graph_ms=(graph,), canary_ms=(canary_ms,), minus_ms=minus))
        identity = f"{task.role}-{PLAN.tasks.index(task)}" if task in PLAN.tasks else task.role
        values = {"id": identity, "verdict": Verdict(True), "rounds": tuple(made), "minus": task.minus} | more
        return Measurement(subject=task.subject, role=task.role, graph=task.graph, divisor=task.divisor, **values)

    def measure_all(self, **more):
        return [self.measure(task, **more) for task in PLAN.tasks]

    def profile(self, api, run_id="run-1", device="pi", runtime=None, **more):
        """The whole campaign over HTTP; returns the summary of the table."""
        run = self.run(run_id, device, runtime=runtime or self.runtime)
        assert api.post("/v1/devices", {"name": device, "probe": {}}).status_code in (200, 201)
        assert api.put(f"/v1/runs/{run_id}", to_wire(run)).status_code == 201
        batch = {"measurements": to_wire(self.measure_all(**more))}
        assert api.post(f"/v1/runs/{run_id}/measurements", batch).json() == {"stored": len(PLAN.tasks), "known": 0}
        answer = api.post(f"/v1/runs/{run_id}/finish", {"plan": to_wire(PLAN)})
        assert answer.status_code == 200, answer.text
        return answer.json()["table"]

    def verify_job(self, table, target_ms=50.0, device="pi"):
        """A verification of the fastest network."""
        genotype = SPACE.format(SPACE.fastest())
        promise = Promise(table["hash"], genotype, 3.0, 4.0, target_ms)
        return NewJob(device, "verify", RUNTIME, PLAN.canary, str(SPACE), f"network:{SPACE}:{genotype}", promise)

    def search_result(self, table_hash, **more):
        """A small family with one rung, as `search ladder` posts it."""
        genotype = SPACE.format(SPACE.fastest())
        members = tuple(FoundNetwork(genotype, 3.0 + n, 3.5 + n, 1000 * (n + 1), 60.0 + 5 * n) for n in range(4))
        rung = ClimbedRung(5.0, 4.0, 4.5, 4.1, True, genotype, 2000, 70.5, "tuned")
        values = {"members": members, "random": members[:2], "ladder": (rung,)} | more
        return SearchResult("a" * 64, "pi", str(SPACE), table_hash, "fashion-mnist", "inherited", 12.0, **values)

    def verification_task(self):
        genotype = SPACE.format(SPACE.fastest())
        return Task(genotype, "verification", f"network:{SPACE}:{genotype}")
