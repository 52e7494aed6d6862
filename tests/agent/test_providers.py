"""Execution providers: refused by name where they are not, found out where they hand nodes to
another one.

This machine's ONNX Runtime offers the CPU and Azure. The latter runs no ordinary node: asked for
it, ONNX Runtime gives every node to the CPU without a word, which is the fallback that has to be
found out.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from profiler_agent.cli import main
from profiler_agent.ort.placement import Placement, read_profile
from profiler_agent.ort.providers import (
    CPU,
    PROVIDERS,
    provider_name,
    require_offered,
    require_started,
    session_options,
)
from profiler_agent.ort.sessions import BoundRun, ModelRefused, TimedGraph, load_graph, local_runtime
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.campaign import Subject
from profiler_agent.timing.stability import StabilityJudge, describe_unstable
from profiler_agent.timing.stopping import PRESETS
from shared.errors import CorruptFile, UnknownName, WrongUse
from shared.graphs import build_graph
from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.measurement import Measurement, Round
from shared.measurements.plan import Task

AZURE = "AzureExecutionProvider"
CONVOLUTIONS = "chain:2:nor_conv_3x3/4x8x8/4x8x8/s1"
BROKEN = "chain:8:nor_conv_1x1/4x8x8/4x8x8/s1"


def graph(reference=CONVOLUTIONS, batch=1):
    return build_graph(parse_graph_spec(reference), batch)


def test_every_provider_of_the_table_is_one_that_onnx_runtime_knows_by_that_name():
    names = [name for name, _ in PROVIDERS.values()]
    assert set(names) <= set(onnxruntime.get_all_providers())
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cpu", CPU),
        ("CUDA", "CUDAExecutionProvider"),
        ("cudaexecutionprovider", "CUDAExecutionProvider"),
        ("FooExecutionProvider", "FooExecutionProvider"),
    ],
)
def test_a_provider_goes_by_its_short_and_its_full_name(text, name):
    assert provider_name(text) == name


@pytest.mark.parametrize("text", ["", "gpu", "CPUExecutionProvider2", "a/bExecutionProvider", "x" * 80])
def test_a_name_of_no_provider_is_refused_with_those_that_there_are(text):
    with pytest.raises(UnknownName, match="cpu, cuda"):
        provider_name(text)


@pytest.mark.parametrize("short", [short for short in PROVIDERS if short != "cpu"])
def test_a_provider_that_is_not_offered_is_refused_with_what_installs_it_and_what_is_here(short):
    name, package = PROVIDERS[short]
    with pytest.raises(WrongUse) as refused:
        require_offered(name, [CPU, AZURE], "1.31.1")
    install = f"pip uninstall onnxruntime, pip install '{package}'" if package else "take a build that has it"
    assert str(refused.value) == f"ONNX Runtime 1.31.1 here has no {name}: {install} (here: cpu, {AZURE})"


@pytest.mark.parametrize(
    "command",
    [
        ["profile", "--offline", "--out", "{folder}/run.json", "--device", "d", "--space", "darts"],
        ["profile", "--server", "http://127.0.0.1:9", "--device", "d", "--space", "darts"],
        ["work", "--server", "http://127.0.0.1:9", "--device", "d"],
        ["predict", "--server", "http://127.0.0.1:9", "--device", "d", "net.onnx"],
        ["doctor", "--seconds", "1"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_provider_that_is_not_here_ends_each_command_with_one_line_and_exit_code_2(command, tmp_path, capsys):
    words = [word.format(folder=tmp_path) for word in command]
    assert main([*words, "--spool", str(tmp_path / "spool"), "--provider", "cuda"]) == 2
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert "has no CUDAExecutionProvider: pip uninstall onnxruntime, pip install 'onnxruntime-gpu'" in last
    assert last.endswith(", cpu)")
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_provider_that_does_not_start_is_no_reason_to_take_the_cpu():
    require_started("CUDAExecutionProvider", ["CUDAExecutionProvider", CPU])
    with pytest.raises(WrongUse, match=r"not start here \(CPUExecutionProvider would have run.*\): .* drivers"):
        require_started("CUDAExecutionProvider", [CPU])


def test_a_provider_with_threads_of_its_own_is_told_how_many():
    assert session_options("OpenVINOExecutionProvider", 3) == {"device_type": "CPU", "num_of_threads": "3"}
    assert session_options("CUDAExecutionProvider", 3) == {}


def test_a_graph_of_which_a_provider_runs_nothing_is_refused_and_not_measured_on_the_cpu():
    with pytest.raises(ModelRefused) as refused:
        load_graph("ops", graph(), local_runtime(provider=AZURE))
    assert str(refused.value) == (
        f"ops: {AZURE} runs nothing of it: 5 of 5 nodes ran on {CPU} instead of {AZURE} (Conv, Relu, ReorderOutput)"
    )


def test_a_campaign_on_a_provider_that_runs_nothing_ends_with_one_clear_line(server, agent, capsys):
    assert main([*agent.profile, "--provider", AZURE]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "without the canary nothing can be measured" in last
    assert f"nodes ran on {CPU} instead of {AZURE}" in last


def test_nodes_that_ran_elsewhere_are_counted_and_named():
    xnnpack = "XnnpackExecutionProvider"
    nodes = [(xnnpack, "Conv")] * 7 + [(CPU, "Softmax"), (CPU, "Slice")]
    placement = Placement(xnnpack, tuple(nodes))
    assert placement.describe() == f"2 of 9 nodes ran on {CPU} instead of {xnnpack} (Slice, Softmax)"
    assert not placement.is_elsewhere
    assert Placement(xnnpack, tuple(nodes[:7])).describe() == ""


PROFILE = b"""[
{"cat": "Session", "name": "model_loading_array", "args": {}},
{"cat": "Node", "name": "conv_1_fence_before", "args": {"op_name": "Conv"}},
{"cat": "Node", "name": "conv_1_kernel_time", "args": {"op_name": "Conv", "provider": "XnnpackExecutionProvider"}},
{"cat": "Node", "name": "softmax_2_kernel_time", "args": {"op_name": "Softmax", "provider": "CPUExecutionProvider"}}
]"""


def test_a_profile_is_read_for_its_nodes_alone_and_what_is_none_is_said():
    placement = read_profile(PROFILE, "XnnpackExecutionProvider")
    assert placement.nodes == (("XnnpackExecutionProvider", "Conv"), (CPU, "Softmax"))
    for content in (b"", b"{", b"[1]", b'[{"cat": "Node", "args": {"provider": "x"}}]'):
        with pytest.raises(CorruptFile, match="not a profile"):
            read_profile(content, CPU)


def test_a_measurement_of_which_nodes_ran_elsewhere_says_so_and_the_summary_too():
    elsewhere = Placement("XnnpackExecutionProvider", (("XnnpackExecutionProvider", "Conv"), (CPU, "Slice"))).describe()
    rounds = [Round((2.0,) * 8, (1.0,) * 16, (1.0,) * 8)] * 6
    long, short = (TimedGraph(name, lambda: None, elsewhere=elsewhere) for name in ("long", "short"))
    task = Task("skip_connect/4x8x8/4x8x8/s1", "marginal", CONVOLUTIONS, CONVOLUTIONS.replace(":2:", ":1:"))
    odd = {CONVOLUTIONS: "a layout reorder inside the chain: 6 more in 8 copies than in 2"}
    verdict = StabilityJudge(PRESETS["quick"], odd=odd).judge(Subject(task, long, short, rounds))
    assert not verdict.stable
    assert verdict.reasons[:2] == (elsewhere, odd[CONVOLUTIONS])
    measurement = Measurement("m", task.subject, task.role, task.graph, task.minus, 1, tuple(rounds), verdict)
    assert describe_unstable([measurement] * 3) == (f"3 of 3 measurements: {elsewhere} [{task.subject}]",)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_bound_run_computes_what_a_plain_run_computes_into_the_same_memory_each_time(batch):
    session = onnxruntime.InferenceSession(graph(batch=batch), providers=[CPU])
    image = np.random.default_rng(0).standard_normal((batch, 4, 8, 8), np.float32)
    bound = BoundRun(session, {"input": image})
    (first,) = bound._binding.get_outputs()
    for _ in range(3):
        bound()
    (last,) = bound._binding.get_outputs()
    assert last.data_ptr() == first.data_ptr()
    (expected,) = session.run(None, {"input": image})
    np.testing.assert_array_equal(last.numpy(), expected)


def test_an_output_without_fixed_shape_can_be_bound():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=[CPU])
    image = np.arange(-12, 12, dtype=np.float32).reshape(6, 4)
    bound = BoundRun(session, {"x": image})
    bound()
    np.testing.assert_array_equal(bound._binding.copy_outputs_to_cpu()[0], np.maximum(image, 0))


def double_convolution() -> bytes:
    """A valid graph with an operator for which ONNX Runtime has no kernel: a convolution of
    doubles.
    """
    sides = [1, 4, 8, 8]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("input", "y"))
    weights = onnx.numpy_helper.from_array(np.zeros((4, 4, 1, 1)), "w")
    nodes = [
        helper.make_node("Cast", ["input"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("Conv", ["d", "w"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    drawn = helper.make_graph(nodes, "g", [x], [y], [weights])
    model = helper.make_model(drawn, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_a_graph_with_an_op_that_the_provider_lacks_is_named_skipped_and_said_again_at_the_end(server, agent, capsys):
    server.models[BROKEN] = double_convolution()
    assert main(agent.profile) == 1
    said = capsys.readouterr().err.splitlines()
    (first,) = [number for number, line in enumerate(said) if line.startswith(f"left out: {BROKEN}: ")]
    (summary,) = [number for number, line in enumerate(said) if "1 graphs could not be measured" in line]
    assert "Conv" in said[first]
    assert first < summary
    assert BROKEN in said[summary + 1]
    assert len(next(iter(server.measurements.values()))) == agent.tasks - 1


def test_the_optimisation_level_reaches_session_run_and_table(server, agent):
    assert main([*agent.profile, "--optimisation", "disabled"]) == 0
    (spooled,) = Spool(agent.spool).runs()
    assert "/opt=disabled/" in str(spooled.run.runtime)
    ((_, _, runtime),) = server.tables
    assert runtime == str(spooled.run.runtime)
    plain = spooled.read_kernels()[BROKEN]
    assert {name.split("/")[0] for name in plain} == {"Relu", "Conv"}


COUNT_THREADS = """
import sys, time
from pathlib import Path
from profiler_agent.ort.sessions import load_graph, local_runtime

def count():
    time.sleep(0.5)  # loading has threads of its own, which end
    return len(list(Path("/proc/self/task").iterdir()))

content, counts = sys.stdin.buffer.read(), []
for threads in (1, 3):
    loaded = load_graph("ops", content, local_runtime(threads=threads))
    counts.append(count())
    del loaded
print(counts[1] - counts[0])
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux shows them")
def test_a_session_has_as_many_threads_as_its_runtime_says():
    # In a process of its own: here threads of other tests come and go.
    command = [sys.executable, "-c", COUNT_THREADS]
    done = subprocess.run(command, input=graph(), capture_output=True, check=True)
    assert int(done.stdout) == 2  # the caller computes, too


def test_the_agents_page_lists_every_provider_with_what_installs_it():
    page = (Path(__file__).parents[2] / "docs" / "agent.md").read_text(encoding="utf-8")
    for short, (name, package) in PROVIDERS.items():
        assert f"| `{short}` | `{name}` | {f'`{package}`' if package else 'another build'}" in page
