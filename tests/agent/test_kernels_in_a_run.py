"""Agent and lut-server together: kernels are counted, handed in once, and used."""

import pytest

pytest.importorskip("lut_server.app", reason="the server is not installed")

import io
import json
import shlex
import sys
import threading

import httpx
import numpy as np
import onnx
import uvicorn
from onnx import TensorProto, helper, numpy_helper

from lut_server.app import create_app
from lut_server.auth import create_token
from lut_server.settings import Settings
from lut_server.store.sql import open_store
from profiler_agent.cli import main
from profiler_agent.kernels import cut
from profiler_agent.ort.sessions import local_runtime
from profiler_agent.spool.spool import Spool
from shared.errors import InvalidValue, LutnasError, MissingKernel, NotFound
from shared.graphs import build_network
from shared.jobs import NewJob
from shared.spaces import make_space
from shared.tables.table import read_table
from shared.wire import to_wire

DARTS = make_space("darts", resolution=8, channels=4, depth=3, classes=3)
SIZES = "--resolution 8 --channels 4 --depth 3 --classes 3 --calibration 6 --held-out 2 --preset quick"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A server, and a device that was profiled for darts; what its commands need."""
    folder = tmp_path_factory.mktemp("there")
    settings = Settings(database_url=f"sqlite:///{folder}/lut.db")
    store = open_store(settings.database_url)
    server = uvicorn.Server(uvicorn.Config(create_app(settings, store=store), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    connection = ["--server", url, "--token", create_token(store.tokens, "admin"), "--device", "bench"]
    connection += ["--spool", str(folder / "spool")]
    assert main(["profile", *connection, "--space", "darts", *SIZES.split()]) == 0
    yield url, connection, folder
    server.should_exit = True
    thread.join()


def test_a_plan_of_darts_works_from_end_to_end_and_every_graph_is_counted(there) -> None:
    url, _, folder = there
    table = read_table(httpx.get(f"{url}/v1/devices/bench/table").json())
    assert {price.op_key for price in table.prices} == {str(key) for key in DARTS.op_keys()}
    (spooled,) = Spool(folder / "spool").runs()
    counted = spooled.read_kernels()
    of_fits = [graph for task in spooled.plan.tasks if task.role != "isolated" for graph in task.graphs]
    assert set(counted) == {spooled.plan.canary, *of_fits}
    assert table.kernels.held_out.networks == 2
    genotype = DARTS.fastest()
    answer = httpx.get(
        f"{url}/v1/kernels", params={"device": "bench", "space": str(DARTS), "runtime": str(local_runtime())}
    ).json()["counts"]
    assert answer[DARTS.format(genotype)] == counted[f"network:{DARTS}:{DARTS.format(genotype)}"]


def test_predict_says_how_long_a_file_takes_and_names_one_that_is_no_model(there, capsys, tmp_path) -> None:
    _, connection, _ = there
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(build_network(DARTS, DARTS.fastest()))
    bad.write_bytes(b"no model")
    assert main(["predict", *connection, str(good)]) == 0
    printed = capsys.readouterr()
    assert "good.onnx: " in printed.out
    assert ", 99 % bound " in printed.out
    assert main(["predict", *connection, str(bad), str(tmp_path / "none.onnx"), str(good)]) == 1
    printed = capsys.readouterr()
    assert "bad.onnx" in printed.err
    assert "none.onnx" in printed.err
    assert "good.onnx: " in printed.out


def test_a_file_whose_name_the_terminal_cannot_show_is_predicted_all_the_same(there, monkeypatch, tmp_path) -> None:
    _, connection, _ = there
    path = tmp_path / "сеть.onnx"
    path.write_bytes(build_network(DARTS, DARTS.fastest()))
    shown = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["predict", *connection, str(path)]) == 0
    shown.flush()
    assert rb"/\u0441\u0435\u0442\u044c.onnx: " in shown.buffer.getvalue()


def test_the_advice_can_be_pasted_and_names_what_can_be_measured_alone(there, capsys, tmp_path) -> None:
    _, connection, _ = there
    other = make_space("darts", resolution=12, channels=4, depth=3, classes=3)
    path = tmp_path / "with space.onnx"
    path.write_bytes(build_network(other, other.fastest()))
    main(["predict", *connection, "--threads", "1", str(path), str(tmp_path / "none.onnx")])
    advice = capsys.readouterr().err.splitlines()[-1]
    assert advice.startswith("measure them with: profiler-agent measure-kernels ")
    assert shlex.split(advice)[-1] == str(path)


def test_kernels_of_operators_that_nobody_foresaw_are_measured_and_predicted(there, capsys, tmp_path) -> None:
    """Two inputs, one of them of integers with a free side; sides that are broadcast; a convolution of sequences."""
    _, connection, folder = there
    path = tmp_path / "own.onnx"
    weight = numpy_helper.from_array(np.ones((8, 4, 3), np.float32), "w")
    table = numpy_helper.from_array(np.ones((10, 1), np.float32), "table")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Erf", ["c"], ["e"]),
        helper.make_node("Gather", ["table", "words"], ["v"]),
        helper.make_node("Mul", ["v", "e"], ["out"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 16]),
        helper.make_tensor_value_info("words", TensorProto.INT64, ["batch", "length"]),
    ]
    graph = helper.make_graph(nodes, "own", inputs, [onnx.ValueInfoProto(name="out")], [weight, table])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert main(["predict", *connection, str(path)]) == 1
    assert "say which with --shape words=1,N" in capsys.readouterr().err
    given = ["--shape", "words=1,8", str(path)]
    assert main(["measure-kernels", *connection, *given, "--preset", "smoke"]) == 0
    assert main(["predict", *connection, *given, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out.split("\n", 2)[2])["files"]
    assert (found["missing"], found["problem"], found["note"]) == ([], None, "its free batch is taken as 1")
    kept = Spool(folder / "spool").find_graph("kernel:8:Erf/1x8x14/1x8x14", 1)
    assert kept is None, "a cut graph goes when its kernel has a price"
    assert main(["measure-kernels", *connection, *given]) == 0
    assert "nothing was left to measure" in capsys.readouterr().out
    for wrong in ("words=0,8", "words", "=1", "words=1,x"):
        assert main(["predict", *connection, "--shape", wrong, str(path)]) == 2


def test_a_timing_graph_that_does_not_hold_its_kernel_makes_the_command_fail(
    there, capsys, monkeypatch, tmp_path
) -> None:
    _, connection, _ = there
    path = tmp_path / "own.onnx"
    graph = helper.make_graph(
        [helper.make_node("Round", ["x"], ["out"])],
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 9])],
        [onnx.ValueInfoProto(name="out")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    build = cut._Cutter.build
    monkeypatch.setattr(cut._Cutter, "build", lambda self, copies, chained: build(self, copies + 1, chained))
    assert main(["measure-kernels", *connection, str(path), "--preset", "smoke"]) == 1
    said = capsys.readouterr().err
    assert "kernel:2:Round/1x9/1x9: its timing graph executes something else: 3 x Round/1x9/1x9" in said


def test_a_count_job_is_done_by_the_agent(there) -> None:
    import random

    url, connection, _ = there
    genotype = DARTS.format(DARTS.sample(random.Random(99)))
    job = NewJob("bench", "count", local_runtime(), "canary:conv-v1", str(DARTS), genotypes=(genotype,))
    headers = {"Authorization": f"Bearer {connection[3]}"}
    queued = httpx.post(f"{url}/v1/jobs", json=to_wire(job), headers=headers).json()["job"]
    assert main(["work", *connection, "--once"]) == 0
    assert httpx.get(f"{url}/v1/jobs/{queued['id']}").json()["job"]["state"] == "done"
    answer = httpx.post(f"{url}/v1/devices/bench/predict", json={"genotype": genotype, "space": "darts"}).json()
    assert answer["by"] == "kernels"


def test_a_torch_module_is_predicted_by_the_kernels_that_the_device_counts_once(there, monkeypatch, tmp_path) -> None:
    torch = pytest.importorskip("torch", reason="the search is not installed")
    from search import predict_latency
    from search.device import kernel_counts

    url, connection, _ = there
    monkeypatch.setenv("LUTNAS_TOKEN", connection[3])
    monkeypatch.setattr(kernel_counts, "ANSWER_S", 0.1)
    asked = {"device": "bench", "lut_url": url}
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 3)]
    model, image = torch.nn.Sequential(*layers).train(), torch.randn(1, 3, 8, 8)
    with pytest.raises(LutnasError, match="no agent of bench answered within"):
        predict_latency(model, image, **asked)
    monkeypatch.setattr(kernel_counts, "ANSWER_S", 20)
    agent = threading.Thread(target=main, args=(["work", *connection, "--poll-s", "0.2", "--idle-exit-s", "3"],))
    agent.start()
    found = predict_latency(model, image, **asked)
    with pytest.raises(MissingKernel, match="measure them with: profiler-agent measure-kernels") as missing:
        predict_latency(torch.nn.Sequential(*layers, torch.nn.Softplus()), image, **asked)
    (tmp_path / "own.onnx").write_bytes(build_network(DARTS, DARTS.fastest()))
    assert predict_latency(tmp_path / "own.onnx", **asked).missing == ()
    measured = predict_latency(torch.nn.Sequential(*layers, torch.nn.Softplus()), image, measure=True, **asked)
    assert measured.missing == ()
    assert measured.table != found.table
    priced = predict_latency(model, image, measure=True, **asked)
    assert priced.missing == ()
    agent.join()
    assert any("Softplus" in kernel for kernel in missing.value.missing)
    assert model.training
    assert 0 < found.mean_ms < found.upper_ms
    assert priced.table == httpx.get(f"{url}/v1/devices/bench/table").headers["ETag"].strip('W/"')
    assert predict_latency(model, image, **asked) == priced, "without an agent"
    with pytest.raises(InvalidValue, match=r"cannot read none\.onnx"):
        predict_latency("none.onnx", **asked)
    with pytest.raises(InvalidValue, match="example: is missing"):
        predict_latency(model, **asked)
    with pytest.raises(NotFound, match="unknown device 'stranger'"):
        predict_latency(model, image, device="stranger", lut_url=url)
