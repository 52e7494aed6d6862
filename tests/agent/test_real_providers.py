"""OpenVINO and WebGPU, each in an environment of its own: the agent there, a real server here. Minutes."""

import dataclasses
import json
import os
import subprocess

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import DataMissing
from benchmarks.devices.providers import OPENVINO, WEBGPU, carry_out, environment, variables
from benchmarks.stack import running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2700)]
TINY = "--resolution 8 --channels 4 --cells-per-stage 1 --calibration 2 --held-out 1 --preset smoke"
SEARCH = "--dataset digits --preset smoke"

LOOK = """
import json, sys, time
import numpy as np
from pathlib import Path
from profiler_agent.host.machine import Machine
from profiler_agent.ort.sessions import BoundRun, LutnasError, load_graph, local_runtime, make_feeds, open_session

def fastest(run):
    times = []
    for _ in range(8):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)

provider, canary, strays = sys.argv[1:]
runtime = local_runtime(provider=provider)
loaded = load_graph("canary", Path(canary), runtime, 8)
session = open_session(Path(canary), runtime)
feeds = make_feeds(session, runtime)
bound = BoundRun(session, feeds)
session.run(None, {name: np.zeros_like(value) for name, value in feeds.items()})
bound()
(got,), (expected,) = bound._binding.copy_outputs_to_cpu(), session.run(None, feeds)
try:
    elsewhere = load_graph("strays", Path(strays), runtime).elsewhere
except LutnasError as error:
    elsewhere = str(error)
print(json.dumps({
    "sessions": loaded.sessions,
    "elsewhere": loaded.elsewhere,
    "strays": elsewhere,
    "same": bool(np.array_equal(got, expected)),
    "bound_s": fastest(bound),
    "loaded_s": fastest(loaded.run),
    "plain_s": fastest(lambda: session.run(None, feeds)),
    "emulator": Machine().emulator,
}))
"""


@pytest.fixture(scope="module", params=[OPENVINO, WEBGPU], ids=lambda case: case.provider)
def case(request):
    try:
        environment(request.param)
    except DataMissing as missing:
        pytest.skip(str(missing))
    return request.param


def agent(case, *arguments):
    """Run this Python there."""
    return subprocess.run(
        [environment(case), *arguments],
        env={**os.environ, **variables(case)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def strays(folder):
    """A graph with an operator that both providers leave to the CPU."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("NonZero", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["c"], ["d"], keepdims=0),
        helper.make_node("Add", ["a", "d"], ["e"]),
        helper.make_node("Conv", ["e", "w"], ["y"]),
    ]
    drawn = helper.make_graph(nodes, "g", [x], [y], [weights])
    model = helper.make_model(drawn, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    path = folder / "strays.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_bound_run_waits_for_the_device_and_strays_are_found_out(case, tmp_path):
    canary = "profiler_agent/canary-conv-v1.onnx"
    done = agent(case, "-c", LOOK, case.provider, canary, strays(tmp_path))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["same"]
    assert (seen["sessions"], seen["elsewhere"]) == (1, "")
    for name in ("bound_s", "loaded_s"):
        assert seen[name] > 0.5 * seen["plain_s"]
    assert "nodes ran on CPUExecutionProvider instead of" in seen["strays"]
    assert "NonZero" in seen["strays"]
    assert seen["emulator"] == ("SwiftShader" if case is WEBGPU else None)


def test_a_driver_that_is_missing_ends_in_a_line_and_no_number(case):
    if not case.variables:
        pytest.skip(f"{case.provider} needs no driver")
    without = dataclasses.replace(case, variables={})
    done = agent(without, "-m", "profiler_agent", "doctor", "--seconds", "1", "--provider", case.provider)
    assert done.returncode == 1
    assert "Failed to get a WebGPU adapter" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_campaign_a_search_and_a_verification_go_to_their_end(case, tmp_path):
    tiny = dataclasses.replace(case, profile=TINY, search=SEARCH, budgets=1)
    with running_stack(tmp_path) as stack:
        table, (rung,), _ = carry_out(tiny, stack, print)
        jobs = httpx.get(f"{stack.url}/v1/jobs?device={case.provider}-device").json()["jobs"]
    assert table["runtime"]["provider"].lower() == f"{case.provider}executionprovider"
    if case is OPENVINO:
        assert table["kernels"] is None  # it compiles whole graphs
    verified = [job for job in jobs if job["job"]["kind"] == "verify"]
    assert {job["state"] for job in verified} == {"done"}
    assert rung["measured_ms"] > 0
