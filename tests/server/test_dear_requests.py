"""What a short request could make the server do for minutes, or with all of its memory."""

import asyncio
import resource
import threading
import time

import pytest
from onnx import TensorProto, helper

from lut_server.http import answer_cache
from lut_server.http.answer_cache import AnswerCache
from lut_server.runs.served_graphs import check_model
from lut_server.transfer.importing import ImportRequest, read_tables
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
        ("kernel:1:nchwc.ReorderInput/1x16000001x1x1/1x16000001x1x1", "fp32"),
    ],
)
def test_graph_that_cannot_be_built_is_the_callers_mistake(steady_api, spec, precision):
    answer = steady_api.get("/v1/graph", params={"spec": spec, "precision": precision}, role=None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


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


def test_file_of_too_many_ops_is_refused_at_once():
    op = "Conv-input:{0}x1x3-output:1x1x3:\n  {{mean: 2.1, std: 0.03, count: 100}}\n"
    content = "".join(op.format(n) for n in range(30_000)).encode()
    began_s = time.process_time()
    with pytest.raises(InvalidValue, match="more than 5000 ops"):
        read_tables(content, "t.yaml", ImportRequest("phone"))
    for deep in (b"[" * 100_000, b"{a: " * 100_000, b"- " * 100_000, b"? " * 100_000):
        with pytest.raises(InvalidValue, match="nested too deeply"):
            read_tables(deep, "t.yaml", ImportRequest("phone"))
    assert time.process_time() - began_s < 5
