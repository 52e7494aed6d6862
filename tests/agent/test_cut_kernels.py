"""Kernels cut out of optimised graphs: the runtime has to execute exactly that kernel, so many times."""

import random
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiler_agent.kernels.cut import SLOW_MS, CutKernel, cut_kernels
from profiler_agent.kernels.kernels import count_kernels, observe
from profiler_agent.ort.sessions import ModelRefused, load_graph, local_runtime
from shared.graphs import build_graph, build_network
from shared.kernels.kernel import parse_kernel
from shared.measurements.graph_spec import KernelGraph, NetworkGraph, parse_graph_spec
from shared.measurements.plan import kernel_task
from shared.spaces import Darts, FBNet, Mobile, NasBenchMacro

RUNTIME = local_runtime()
AS_IT_IS = replace(RUNTIME, optimisation="disabled")


def model(nodes, inputs, tensors=(), opset=17):
    made = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    results = [onnx.ValueInfoProto(name=name) for name in nodes[-1].output if name]
    graph = helper.make_graph(nodes, "own", made, results, [numpy_helper.from_array(v, n) for n, v in tensors])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def cut_all(content, runtime=RUNTIME):
    """The model of eight copies of every kernel of a model, each checked by itself, as is that of two."""
    found = {}
    with observe("model", content, runtime) as graph:
        for one in cut_kernels(graph, set(graph.counts())):
            assert isinstance(one, CutKernel), one
            for copies in (2, 8):
                found[str(one.kernel)] = one.build(copies)
                alone = count_kernels("alone", found[str(one.kernel)], replace(runtime, optimisation="disabled"))
                assert alone == {str(one.kernel): copies}
        assert found.keys() == graph.counts().keys()
    return found


@pytest.mark.parametrize(
    "space",
    [
        Darts(resolution=16, channels=8, depth=3),
        FBNet(resolution=32, channels=8, depth=1),
        NasBenchMacro(resolution=16, channels=8),
        Mobile(resolution=16, channels=8, depth=2),
    ],
)
def test_every_kernel_of_a_space_s_networks_is_executed_alone_as_often_as_asked_for(space) -> None:
    assert cut_all(build_network(space, space.sample(random.Random(1))))


def test_integer_kernels_are_cut_like_any_others() -> None:
    space = Darts(resolution=16, channels=8, depth=3)
    content = build_graph(NetworkGraph(space, space.fastest()), precision="int8")
    assert any("QLinearConv" in kernel for kernel in cut_all(content, replace(RUNTIME, precision="int8")))


def of_three_ways(activation):
    """A convolution, an activation, and a product with its mean that is broadcast both ways."""
    weight = np.random.default_rng(0).standard_normal((16, 3, 3, 3), np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["c"], ["a"]),
        helper.make_node("ReduceMean", ["a"], ["row"], axes=[1]),
        helper.make_node("ReduceMean", ["a"], ["column"], axes=[2, 3]),
        helper.make_node("Add", ["row", "column"], ["out"]),
    ]
    return model(nodes, [("image", TensorProto.FLOAT, (1, 3, 16, 16))], [("w", weight)])


def test_a_sum_that_is_broadcast_both_ways_has_the_sides_that_it_really_has() -> None:
    assert "Add/1x1x16x16,1x16x1x1/1x16x16x16" in cut_all(of_three_ways("Erf"))


def fed(content):
    """How many copies are fed by another one."""
    loaded = onnx.load_from_string(content)
    made = {name for node in loaded.graph.node for name in node.output}
    return sum(any(name in made for name in node.input) for node in loaded.graph.node)


def test_copies_follow_one_another_where_that_ends_well_and_stand_side_by_side_elsewhere() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Exp", ["y"], ["z"])]
    nodes.append(helper.make_node("Concat", ["z", "y"], ["out"], axis=1))
    found = cut_all(model(nodes, [("x", TensorProto.FLOAT, (1, 64))]))
    chained = {kernel.split("/")[0]: fed(one) for kernel, one in found.items()}
    assert chained == {"Relu": 7, "Exp": 0, "Concat": 0}, "exp of exp of ... leaves the numbers of its type"


def test_a_timing_graph_is_fed_as_a_network_is() -> None:
    """What that takes would be missing from the cost of a call."""
    (made,) = cut_all(model([helper.make_node("Erf", ["x"], ["y"])], [("x", TensorProto.FLOAT, (1, 64))])).values()
    graph = onnx.load_from_string(made).graph
    fed_inputs = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    assert len(fed_inputs) == 1
    assert not fed_inputs & {name for node in graph.node for name in node.input}


def test_large_constants_are_every_copy_s_own() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    content = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", TensorProto.FLOAT, (1, 64))], [("w", weight)]
    )
    (one,) = cut_all(content).values()
    loaded = onnx.load_from_string(one)
    weights = {node.input[1] for node in loaded.graph.node}
    assert len(weights) == 8
    for tensor in loaded.graph.initializer:
        if tensor.name in weights:
            np.testing.assert_array_equal(numpy_helper.to_array(tensor), weight)


def test_a_loop_is_cut_with_what_it_reads_from_outside() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["before", "step"], ["after"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, (1, 4)),
        ],
        [onnx.ValueInfoProto(name="on"), onnx.ValueInfoProto(name="after")],
    )
    nodes = [
        helper.make_node("Sqrt", ["x"], ["step"]),
        helper.make_node("Loop", ["trips", "", "x"], ["out"], body=body),
    ]
    inputs = [("x", TensorProto.FLOAT, (1, 4)), ("trips", TensorProto.INT64, ())]
    (loop,) = (kernel for kernel in cut_all(model(nodes, inputs)) if kernel.startswith("Loop/"))
    assert loop.startswith("Loop/s.i64,_,1x4,1x4/1x4/body=")


def test_a_loop_without_an_end_is_given_up_in_one_line(monkeypatch) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, (1, 4)),
        ],
        [onnx.ValueInfoProto(name="on"), onnx.ValueInfoProto(name="after")],
    )
    nodes = [helper.make_node("Loop", ["", "always", "x"], ["out"], body=body)]
    content = model(nodes, [("x", TensorProto.FLOAT, (1, 4))], [("always", np.array(True))])
    monkeypatch.setattr("profiler_agent.ort.sessions.LONGEST_RUN_S", 0.2)
    for use in (count_kernels, load_graph):
        with pytest.raises(ModelRefused, match=r"endless: .* more than 0\.2 s: is there a loop without an end"):
            use("endless", content, RUNTIME)


def test_indices_texts_and_states_are_those_that_were_observed() -> None:
    """Random numbers in their place would not be valid."""
    rng = np.random.default_rng(0)
    weights = [("w", rng.standard_normal((1, 16, 8), np.float32)), ("r", rng.standard_normal((1, 16, 4), np.float32))]
    nodes = [
        helper.make_node("Mul", ["words", "three"], ["places"]),
        helper.make_node("Gather", ["table", "places"], ["vectors"]),
        helper.make_node("LSTM", ["vectors", "w", "r"], ["", "last"], hidden_size=4),
    ]
    tensors = [("table", rng.standard_normal((5, 8), np.float32)), ("three", np.array(3)), *weights]
    found = cut_all(model(nodes, [("words", TensorProto.INT64, (10, 1))], tensors))
    assert "Gather/w5x8,10x1.i64/10x1x8/axis=0" in found
    assert any(kernel.startswith("LSTM/10x1x8,w1x16x8,w1x16x4/_,1x1x4/") for kernel in found)


def test_a_kernel_that_reads_a_sequence_is_cut_beside_what_makes_that_once() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["many"]),
        helper.make_node("ConcatFromSequence", ["many"], ["y"], axis=0),
    ]
    with observe("sequence", model(nodes, [("x", TensorProto.FLOAT, (1, 4))]), AS_IT_IS) as graph:
        made, joined = cut_kernels(graph, set(graph.counts()))
    assert count_kernels("alone", made.build(8), AS_IT_IS) == {str(made.kernel): 8}
    assert count_kernels("alone", joined.build(8), AS_IT_IS) == {str(made.kernel): 1, str(joined.kernel): 8}


def test_a_kernel_that_reads_no_tensor_is_named_and_the_others_are_cut() -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, (1, 4))
    nodes = [
        helper.make_node("Optional", [], ["perhaps"], type=kind),
        helper.make_node("OptionalHasElement", ["perhaps"], ["y"]),
    ]
    with observe("optional", model(nodes, [], opset=18), AS_IT_IS) as graph:
        found = list(cut_kernels(graph, set(graph.counts())))
    assert [isinstance(one, CutKernel) for one in found] == [True, False]
    assert "cannot be cut out: it reads perhaps, no tensors" in str(found[1])


def test_copies_stand_side_by_side_where_a_result_only_looks_like_what_is_read() -> None:
    nodes = [helper.make_node("Optional", ["x"], ["perhaps"])]
    nodes.append(helper.make_node("OptionalGetElement", ["perhaps"], ["y"]))
    found = cut_all(model(nodes, [("x", TensorProto.FLOAT, (1, 4))], opset=18), AS_IT_IS)
    assert {kernel.split("/")[0]: fed(one) for kernel, one in found.items()} == {"Optional": 0, "OptionalGetElement": 7}


def test_a_graph_runs_once_for_all_kernels_whose_inputs_fit_into_memory(monkeypatch) -> None:
    operators = ("Erf", "Sin", "Tanh", "Softsign")
    nodes = [helper.make_node(operator, [f"x{i}"], [f"x{i + 1}"]) for i, operator in enumerate(operators)]
    with observe("many", model(nodes, [("x0", TensorProto.FLOAT, (1, 64))]), RUNTIME) as graph:
        wanted, runs, run = set(graph.counts()), [], graph._run
        monkeypatch.setattr(graph, "_run", lambda names: runs.append(names) or run(names))
        assert len(list(cut_kernels(graph, wanted))) == len(operators)
    assert len([names for names in runs if names]) == 1


def test_a_slow_kernel_is_timed_by_itself(monkeypatch) -> None:
    assert SLOW_MS > 1
    monkeypatch.setattr("profiler_agent.kernels.cut.SLOW_MS", 0.0)
    with observe("slow", of_three_ways("Erf"), RUNTIME) as graph:
        assert all(one.slow for one in cut_kernels(graph, set(graph.counts())))
    kernel = parse_kernel("Relu/1x4/1x4")
    assert kernel_task(kernel, slow=True).graphs == ("kernel:1:Relu/1x4/1x4",)


@pytest.mark.parametrize(
    ("kernel", "copies"),
    [
        ("Relu/1x16x8x8/1x16x8x8", (8, 2)),
        ("nchwc.Conv/1x64x28x28,w64x64x3x3/1x64x28x28", (5, 1)),
        ("Gemm/1x256,w100x256/1x100/transB=1", (19, 2)),
        ("Gemm/1x16,w10x16/1x10/transB=1", (64, 8)),
        ("nchwc.Conv/1x64x112x112,w64x64x3x3/1x64x112x112", (2, 1)),
        ("Gemm/1x25088,w4096x25088/1x4096/transB=1", (1,)),
    ],
)
def test_copies_are_few_of_large_kernels_and_many_of_those_whose_weights_a_cache_could_keep(kernel, copies) -> None:
    task = kernel_task(parse_kernel(kernel))
    assert tuple(parse_graph_spec(graph).copies for graph in task.graphs) == copies
    assert task.divisor == (copies[0] - copies[1] if len(copies) > 1 else 1)


def test_a_kernel_reference_reads_back() -> None:
    for kernel in ("Relu/1x4/1x4", "If/s.b,1x4,w4x1/4x4/then_branch=1f2e", "LSTM/10x1x8,w1x16x8,_/_,1x1x4/a=b;c=1x2"):
        spec = KernelGraph(8, parse_kernel(kernel))
        assert parse_graph_spec(str(spec)) == spec
