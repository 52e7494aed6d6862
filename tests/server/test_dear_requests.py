"""What a short request could make the server do for minutes, or with all of its memory."""

import asyncio
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from random import Random
from urllib.parse import urlsplit

import httpx
import pytest
from onnx import TensorProto, helper

from lut_server.http import answer_cache, connections, container_memory, services
from lut_server.http.answer_cache import AnswerCache
from lut_server.http.routes import plans
from lut_server.http.services import ANONYMOUS_AT_ONCE
from lut_server.runs.served_graphs import check_model
from lut_server.transfer.importing import ImportRequest, read_tables
from lut_server.transfer.op_tables import MOST_OPS
from shared.errors import InvalidValue, ServerRefused
from shared.graphs import build_graph
from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.plan import make_plan
from shared.spaces import parse_space
from shared.wire import to_wire

MIB = 1 << 20
LARGE = [
    ("chain:1:nor_conv_3x3/4000x8x8/4000x8x8/s1", "fp32"),
    ("network:nas-bench-201/r32/c2000/n1/k10/i3:|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", "fp32"),
    ("chain:64:avg_pool_3x3/1000000x96x96/1000000x96x96/s1", "int8"),
    ("parallel:64:max_pool_3x3/400x96x96/400x48x48/s2", "int8"),
    ("chain:64:max_pool_3x3/300x96x96/300x96x96/s1", "int8"),
    ("chain:1:avg_pool_3x3/60000000x1x1/60000000x1x1/s1", "int8"),
]


@pytest.mark.parametrize(("spec", "precision"), LARGE)
def test_graph_beyond_the_limit_is_refused_before_its_memory_is_taken(spec, precision):
    before_kib, began_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InvalidValue, match=r"the limit is 64 MiB \(setting max_graph_mb\)"):
        build_graph(parse_graph_spec(spec), 1, precision, 64 * MIB)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 200 * 1024
    assert time.process_time() - began_s < 10


def test_limit_changes_no_graph_below_it(lab):
    for task in lab.plan.tasks[:3] + lab.plan.tasks[-1:]:
        for precision in ("fp32", "int8"):
            spec = parse_graph_spec(task.graph)
            assert build_graph(spec, 1, precision, 64 * MIB) == build_graph(spec, 1, precision)


@pytest.mark.parametrize(
    ("spec", "precision"),
    [
        (f"chain:1:avg_pool_3x3/1x{'9' * 4400}x1/1x1x1/s1", "fp32"),
        ("chain:1:avg_pool_3x3/1x99999999999999999999x1/1x99999999999999999999x1/s1", "fp32"),
        ("chain:1:skip_connect/1x8x8/1x4x4/s2", "int8"),
        ("chain:1:k3_e1_g2/3x8x8/3x8x8/s1", "int8"),
        ("chain:1:residual_block/4x9x9/4x5x5/s2", "int8"),
        ("chain:2:classifier/4x8x8/4x8x8/s1", "int8"),
        ("parallel:1:skip_connect/2x1x1/2x1x1/s1", "fp32"),
        ("parallel:1:residual_block/1x1x1/1x1x1/s8000", "int8"),
        ("kernel:1:nchwc.ReorderInput/1x16000001x1x1/1x16000001x1x1", "fp32"),
    ],
)
def test_graph_that_cannot_be_built_is_the_callers_mistake(steady_api, spec, precision):
    answer = steady_api.get("/v1/graph", params={"spec": spec, "precision": precision}, role=None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    ("spec", "is_built"),
    [
        ("chain:64:avg_pool_3x3/24x96x96/24x96x96/s1", True),
        ("chain:64:max_pool_3x3/24x96x96/24x96x96/s1", True),
        ("chain:12:nor_conv_1x1/700x96x96/700x96x96/s1", False),
    ],
)
def test_ranges_of_a_long_int8_chain_take_no_seconds(spec, is_built):
    began_s = time.process_time()
    with nullcontext() if is_built else pytest.raises(InvalidValue, match="the limit is 256 MiB"):
        build_graph(parse_graph_spec(spec), 1, "int8", 256 * MIB)
    assert time.process_time() - began_s < 1.5


def test_deep_network_of_sums_has_int8_ranges_that_are_numbers():
    cell = "|avg_pool_3x3~0|+|avg_pool_3x3~0|avg_pool_3x3~1|+|avg_pool_3x3~0|avg_pool_3x3~1|avg_pool_3x3~2|"
    assert build_graph(parse_graph_spec(f"network:nas-bench-201/r8/c4/n32/k10/i3:{cell}"), 1, "int8")


def test_strangers_take_one_place_of_those_that_wait_for_graphs(api, monkeypatch):
    monkeypatch.setattr(answer_cache, "MOST_WAITING", 3)
    go, admin, plan = threading.Event(), api.token("admin"), "/v1/plan?space=nas-bench-201/r8/c4/n1/k10/i3&seed="
    monkeypatch.setattr(plans, "make_plan", lambda *asked: go.wait(20) and make_plan(*asked))
    with ThreadPoolExecutor(12) as pool, httpx.Client(base_url=api.url, timeout=60) as http:
        asked = [pool.submit(http.get, f"{plan}{n}") for n in range(10)]
        time.sleep(0.5)
        asked.append(pool.submit(api.get, f"{plan}99", token=admin))
        time.sleep(0.2)
        go.set()
        assert {future.result().status_code for future in asked} == {200}


def test_one_answer_is_made_at_a_time_and_what_is_asked_for_again_is_kept():
    running, most, made = [], [], []

    def make(name):
        running.append(name)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(name)
        made.append(name)
        return name.encode()

    async def ask():
        cache = AnswerCache()
        names = ["a", "b", "c"] * 5
        return await asyncio.gather(*(cache.get(name, lambda name=name: make(name)) for name in names))

    answers = asyncio.run(ask())
    assert [answer.content for answer in answers] == [b"a", b"b", b"c"] * 5
    assert sorted(made) == ["a", "b", "c"]
    assert max(most) == 1


def test_more_than_can_wait_are_asked_to_come_back_and_the_cache_has_a_bound(monkeypatch):
    monkeypatch.setattr(answer_cache, "MOST_WAITING", 2)
    monkeypatch.setattr(answer_cache, "MOST_BYTES", 10)

    async def ask():
        cache, go = AnswerCache(), threading.Event()

        def make():
            go.wait(10)
            return b"12345678"

        waiting = [asyncio.create_task(cache.get(n, make)) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ServerRefused, match="try again") as busy:
            await cache.get(2, make)
        assert (busy.value.status, busy.value.retry_after_s) == (503, answer_cache.RETRY_AFTER_S)
        go.set()
        await asyncio.gather(*waiting)
        assert (await cache.get(1, lambda: b"other")).content == b"12345678"
        assert (await cache.get(0, lambda: b"other")).content == b"other"

    asyncio.run(ask())


def test_plan_of_a_deep_space_is_made_in_less_than_a_second():
    began_s = time.process_time()
    make_plan(parse_space("fbnet/r224/c32/n64/k1000/i3"))
    assert time.process_time() - began_s < 1


def test_model_with_weights_in_a_file_is_refused_wherever_it_names_the_file(tmp_path):
    inside = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    inside.ClearField("float_data")
    inside.data_location = TensorProto.EXTERNAL
    inside.external_data.add(key="location", value="/etc/hostname")
    constant = helper.make_node("Constant", [], ["w"], value=inside)
    branch = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])])
    choice = helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
    for node, inputs in ((constant, []), (choice, [helper.make_tensor_value_info("c", TensorProto.BOOL, [])])):
        graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])])
        content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
        with pytest.raises(InvalidValue, match="keeps weights in other files"):
            check_model(content)


def test_kernels_are_parsed_for_a_device_that_there_is_and_are_bounded(api):
    many = {f"Relu/1x{n}/1x{n}": 1 for n in range(1, 60_000)}
    for path, body in (
        ("/v1/devices/nobody/predict", {"kernels": many}),
        ("/v1/devices/nobody/kernels/missing", {"networks": [list(many)]}),
    ):
        began_s = time.process_time()
        answer = api.post(path, body, role=None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_device")
        assert time.process_time() - began_s < 3
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    began_s = time.process_time()
    answer = api.post("/v1/devices/pi/predict", {"kernels": many}, role=None)
    assert (answer.status_code, "59999 distinct kernels" in answer.text) == (422, True)
    assert time.process_time() - began_s < 3
    long = {"kernels": {"Relu/" + "1x" * 3_000_000 + "1/1": 1}}
    assert api.post("/v1/devices/pi/predict", long, role=None).status_code == 413


@pytest.mark.parametrize(
    "kernel",
    ["Relu/" + "x".join(["99999999999"] * 40) + "/1", "Gemm/1x²,w1x1/1x1", "A/" + ",".join(["1"] * 20_000) + "/1"],
)
def test_kernel_that_none_is_is_the_callers_mistake(steady_api, kernel):
    answer = steady_api.post("/v1/devices/pi/predict", {"kernels": {kernel: 1}}, role=None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


def test_jobs_are_counted_by_the_database_and_listed_in_parts(api, lab, monkeypatch):
    table = lab.profile(api)
    jobs = [to_wire(lab.verify_job(table, 50.0 + n)) for n in range(5)]
    for job in jobs:
        assert api.post("/v1/jobs", job).status_code == 201
    found = [api.get(f"/v1/jobs?offset={offset}&limit=2").json()["jobs"] for offset in (0, 2, 4, 6)]
    assert [len(part) for part in found] == [2, 2, 1, 0]
    assert [job["job"]["promise"]["target_ms"] for part in found for job in part] == [50.0, 51.0, 52.0, 53.0, 54.0]
    assert api.get("/v1/jobs?limit=2000").status_code == 422
    read = []
    listed = api.store.jobs.list
    object.__setattr__(
        api.store.jobs, "list", lambda *given, **more: read.append(more.get("limit")) or listed(*given, **more)
    )
    assert 'lutnas_jobs{state="queued"} 5.0' in api.get("/metrics").text
    page = api.get("/jobs?format=json").json()
    assert page["states"]["queued"] == 5
    assert page["unserved"] == ["pi"]
    assert read == [50]


def test_fit_of_a_deep_space_counts_the_ops_of_a_network_once():
    space, random = parse_space("fbnet/r32/c16/n64/k10/i3"), Random(1)
    rows = [f"{space.format(space.sample(random))};{10 + random.random()}" for _ in range(60)]
    began_s = time.process_time()
    content = "\n".join(["architecture;ms", *rows]).encode()
    with suppress(InvalidValue):  # an op may be in none of them
        read_tables(content, "t.csv", ImportRequest("phone", "ms", space=str(space), unit="ms"))
    assert time.process_time() - began_s < 3


def test_file_of_too_many_ops_is_refused_at_once():
    op = "Conv-input:{0}x1x3-output:1x1x3:\n  {{mean: 2.1, std: 0.03, count: 100}}\n"
    content = "".join(op.format(n) for n in range(30_000)).encode()
    began_s = time.process_time()
    with pytest.raises(InvalidValue, match=f"more than {MOST_OPS} ops"):
        read_tables(content, "t.yaml", ImportRequest("phone"))
    for deep in (b"[" * 100_000, b"{a: " * 100_000, b"- " * 100_000, b"? " * 100_000):
        with pytest.raises(InvalidValue, match="nested too deeply"):
            read_tables(deep, "t.yaml", ImportRequest("phone"))
    assert time.process_time() - began_s < 5


def wait_until(holds):
    end_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.parametrize("path", ["/v1/devices", "/", "/metrics"])
def test_few_threads_read_for_those_without_a_token_and_a_token_waits_for_none(api, monkeypatch, path):
    running, most, lock, go = [0], [0], threading.Lock(), threading.Event()
    listed = api.store.devices.list

    def slow():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        go.wait(20)
        with lock:
            running[0] -= 1
        return listed()

    admin = api.token("admin")
    api.get("/v1/token")  # its slow check is over
    object.__setattr__(api.store.devices, "list", slow)
    monkeypatch.setattr(api.store.database, "count", lambda table: len(slow()))
    with ThreadPoolExecutor(30) as pool, httpx.Client(base_url=api.url, timeout=60) as http:
        anonymous = [pool.submit(http.get, path) for _ in range(30)]
        try:
            wait_until(lambda: running[0] == ANONYMOUS_AT_ONCE)
            for _ in range(3):
                began_s = time.monotonic()
                assert api.get("/v1/token", token=admin).status_code == 200
                assert http.get("/readyz").status_code == 200
                assert time.monotonic() - began_s < 2
        finally:
            go.set()
        assert {future.result().status_code for future in anonymous} == {200}
    assert most[0] == ANONYMOUS_AT_ONCE


def test_questions_take_so_many_bytes_at_a_time(api, monkeypatch):
    monkeypatch.setattr(services, "MOST_QUESTION_BYTES", 1000)
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    short, long = ({"kernels": {f"Relu/1x{n}/1x{n}": 1 for n in range(1, number)}} for number in (5, 100))
    head = "POST /v1/devices/pi/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"
    with socket.create_connection(urlsplit(api.url).netloc.split(":"), timeout=10) as held:
        held.sendall(head.encode() + b"{" * 950)
        time.sleep(0.3)
        refused = api.post("/v1/devices/pi/predict", short, role=None)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert api.post("/v1/devices/pi/predict", short).json()["error"]["code"] == "no_table"
    time.sleep(0.3)
    assert api.post("/v1/devices/pi/predict", short, role=None).json()["error"]["code"] == "no_table"
    assert api.post("/v1/devices/pi/predict", long, role=None).status_code == 503
    assert api.post("/v1/devices/pi/predict", short, role=None).status_code == 404  # what was refused is given back


def test_graphs_that_are_not_read_are_not_made_without_end(start, monkeypatch):
    monkeypatch.setattr(answer_cache, "MOST_BYTES", 8 * MIB)
    spec = "/v1/graph?spec=chain:1:nor_conv_3x3/500x8x8/500x8x8/s1&batch={}"  # 9 MB each
    with start() as api, ExitStack() as stack:
        host, port = urlsplit(api.url).netloc.split(":")
        for batch in range(1, 6):
            unread = stack.enter_context(socket.socket())
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread.connect((host, int(port)))
            unread.sendall(f"GET {spec.format(batch)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.5)
        refused = api.get(spec.format(9))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        stack.close()
        time.sleep(0.5)
        answer = api.get(spec.format(9))
        assert (answer.status_code, len(answer.content)) == (200, int(answer.headers["content-length"]))


def test_answers_that_nobody_reads_are_bounded_in_all(api, lab, monkeypatch):
    monkeypatch.setattr(connections, "MOST_UNREAD_BYTES", 40 * MIB)
    content = b"x" * (20 * MIB)  # of which the kernel takes some
    object.__setattr__(api.store.tables, "get_bytes", lambda table_hash: content)
    host, port = urlsplit(api.url).netloc.split(":")
    with ExitStack() as stack:
        unread = []
        for _ in range(4):
            unread.append(stack.enter_context(socket.socket()))
            unread[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread[-1].connect((host, int(port)))
            unread[-1].sendall(b"GET /v1/tables/" + b"a" * 64 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.3)
        sizes = [len(read_all(each)) for each in unread]
    assert all(size < len(content) for size in sizes[:2])
    assert sizes[-1] > len(content)


def read_all(connection):
    found = bytearray()
    connection.settimeout(2)
    with suppress(OSError):
        while piece := connection.recv(1 << 20):
            found += piece
    return found


def test_words_that_are_no_methods_make_no_metrics(api):
    for number in range(20):
        assert api.http.request(f"WORD{number}", "/v1/devices").status_code == 405
    assert "WORD" not in api.get("/metrics").text


def test_who_asks_and_goes_away_gets_no_turn(api):
    asked, go = [], threading.Event()
    listed = api.store.devices.list

    def slow():
        asked.append(1)
        go.wait(20)
        return listed()

    object.__setattr__(api.store.devices, "list", slow)
    host, port = urlsplit(api.url).netloc.split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(b"GET /v1/devices HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.05)
    go.set()
    assert api.get("/v1/devices", role=None).status_code == 200
    assert len(asked) == ANONYMOUS_AT_ONCE + 1


@pytest.mark.parametrize(
    ("said", "most"), [("max\n", 1 << 30), ("536870912\n", 1 << 27), ("9223372036854771712\n", 1 << 30)]
)
def test_container_limits_what_is_built_and_kept(tmp_path, monkeypatch, said, most):
    (tmp_path / "memory.max").write_text(said)
    monkeypatch.setattr(container_memory, "_LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "none")))
    container_memory.most_bytes.cache_clear()
    try:
        assert container_memory.most_bytes(1 << 30, 4) == most
    finally:
        container_memory.most_bytes.cache_clear()


def test_no_memory_is_no_fault_of_the_program(start, monkeypatch):
    with start() as api:

        def fail(*_, **__):
            raise MemoryError

        monkeypatch.setattr(api.store.devices, "list", fail)
        answer = api.get("/v1/devices")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
