import gzip
import hashlib
import json

import httpx
import pytest

from search.device.lut_client import LutClient
from search.device.verification import request_verification
from shared.errors import CorruptFile, LutnasError, OtherSchema, ServerAway, ServerRefused
from shared.jobs import Job, NewJob, Promise, Verification
from shared.wire import TABLE_SCHEMA, canonical_json, from_wire, to_wire

URL = "http://table.test:8080"
VERIFICATION = Verification(0.9, 0.88, 0.92, 1.0, 1.11, True, True, ())


def client(answer, token=None):
    return LutClient(URL, token, httpx.MockTransport(answer))


def table_response(table, etag=None):
    headers = {"ETag": f'"{etag or table.hash}"', "Content-Encoding": "gzip", "Content-Type": "application/json"}
    return httpx.Response(200, content=gzip.compress(canonical_json(table)), headers=headers)


def test_table_arrives_whole_and_is_asked_for_by_device_space_and_runtime(table):
    asked = []

    def answer(request):
        asked.append(request.url)
        return table_response(table)

    with client(answer) as asking:
        got = asking.get_table("testbed", space="nas-bench-201/r16", runtime=str(table.runtime))
    assert got == table
    assert got.hash == table.hash
    assert asked[0].path == "/v1/devices/testbed/table"
    assert dict(asked[0].params) == {"space": "nas-bench-201/r16", "runtime": str(table.runtime)}


def test_table_that_is_not_what_its_etag_names_is_refused(table):
    with pytest.raises(CorruptFile, match="does not fit its ETag"):
        client(lambda request: table_response(table, etag="0" * 64)).get_table("testbed")


def test_table_of_another_lutnas_says_so(table):
    other = {**to_wire(table), "schema": 99}
    with pytest.raises(OtherSchema, match=f"schema 99, this lutnas reads schema {TABLE_SCHEMA}"):
        client(lambda request: httpx.Response(200, json=other)).get_table("testbed")


FORGED = [
    {"device": "../../../../x"},
    {"device": "other"},
    {"runtime": {"engine": "onnxruntime", "version": "0.1"}},
    {"canary_nominal_ms": 0.0},
    {"canary_nominal_ms": -1.0},
    {"relative_spread": -0.1},
    {"base_ms": float("nan")},
    {"settled": {"networks": 8, "shift": 1e9, "spread": 0.0}},
]


def negative_variance(data):
    data["covariance"][3][3] = -1.0


def key_twice(data):
    data["prices"][1]["op_key"] = data["prices"][0]["op_key"]


def no_key(data):
    data["prices"][1]["op_key"] = "../x"


def beyond_floats(data):
    data["prices"][1]["marginal_ms"] = 1e300


@pytest.mark.parametrize("forge", [*FORGED, negative_variance, key_twice, no_key, beyond_floats])
def test_table_that_was_not_asked_for_or_cannot_be_is_refused(table, forge):
    data = to_wire(table)
    if callable(forge):
        forge(data)
    else:
        data |= forge
    content = json.dumps(data).replace("1e+300", "1e999").encode()
    asking = client(lambda request: httpx.Response(200, content=content))
    with pytest.raises(ServerRefused, match="does not speak as a lut-server does") as caught:
        asking.get_table("testbed", "nas-bench-201/r16", str(table.runtime))
    assert caught.value.code == "foreign"


@pytest.mark.parametrize("counts", [{"|a|": {"Relu/1x1/1x1": -1}}, {"|a|": {"../x": 1}}, {"|a|": {}}])
def test_kernel_counts_that_cannot_be_are_refused(counts):
    asking = client(lambda request: httpx.Response(200, json={"counts": counts}))
    with pytest.raises(ServerRefused, match=r"counts|kernel"):
        asking.get_kernel_counts("testbed", "s", "r")


def test_nobody_listening_on_the_port_is_a_server_away():
    with pytest.raises(ServerAway), LutClient("http://127.0.0.1:9") as asking:
        asking.get_job("7")


class Server:
    """Takes one model and one job; the job's state follows a script, one state per question."""

    def __init__(self, states):
        self.states = list(states)
        self.requests = []
        self.model = b""
        self.job = None

    def __call__(self, request):
        self.requests.append(f"{request.method} {request.url.path}")
        self.headers = request.headers
        if request.method == "PUT":
            self.model = request.content
            return httpx.Response(201, json={"model": {"sha256": request.url.path.split("/")[-1], "bytes": 3}})
        if request.url.path == "/v1/jobs":
            self.job = from_wire(NewJob, json.loads(request.content))
            return self._answer("queued")
        if request.url.path.endswith("/cancel"):
            return self._answer("cancelled")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "away":
            raise httpx.ConnectError("refused")
        return self._answer(state)

    def _answer(self, state):
        over = {"verification": VERIFICATION} if state == "done" else {}
        reason = {"reason": "out of memory"} if state == "failed" else {}
        owner = {"lease_owner": "pi-7"} if state == "leased" else {}
        job = Job("job-1", self.job, state, 1, 3, "2026-01-31T12:00:00Z", **over, **reason, **owner)
        return httpx.Response(200, json={"job": to_wire(job)})


class FakeTime:
    def __init__(self):
        self.now_s = 0.0

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def ask(states, table, timeout_s=10.0):
    server, fake = Server(states), FakeTime()
    promise = Promise(table.hash, "|...|", 0.8, 0.9, 1.0)
    time = {"clock": fake.clock, "sleep": fake.sleep}
    return server, lambda: request_verification(client(server, "tok"), table, b"onx", promise, timeout_s, **time)


def test_verification_uploads_the_file_queues_it_with_the_promise_and_waits(table):
    server, asking = ask(["queued", "leased", "away", "leased", "done"], table)
    assert asking() == VERIFICATION
    assert server.states == ["done"]
    assert server.model == b"onx"
    assert server.job.graph == f"model:{hashlib.sha256(b'onx').hexdigest()}"
    assert server.job.promise.table_hash == table.hash
    assert (server.job.runtime, server.job.canary, server.job.device) == (table.runtime, table.canary, "testbed")
    assert server.headers["Authorization"] == "Bearer tok"


def test_without_an_agent_the_message_says_how_to_start_one_and_the_job_is_taken_back(table):
    server, asking = ask(["queued"], table)
    with pytest.raises(LutnasError, match=rf"no agent of testbed .* 10 s.*profiler-agent work --lut-url {URL}"):
        asking()
    assert server.requests[-1] == "POST /v1/jobs/job-1/cancel"


def test_agent_that_is_slow_is_named_and_keeps_its_job(table):
    server, asking = ask(["leased"], table)
    with pytest.raises(LutnasError, match=r"pi-7.*--timeout-s"):
        asking()
    assert not any(request.endswith("cancel") for request in server.requests)


def test_failed_job_gives_its_reason(table):
    _, asking = ask(["leased", "failed"], table)
    with pytest.raises(LutnasError, match=r"job-1 is failed \(out of memory\)"):
        asking()


def test_server_that_stays_away_while_waiting_is_an_error_at_the_end(table):
    _, asking = ask(["queued", "away"], table)
    with pytest.raises(ServerAway):
        asking()
