"""Kernel counts against onnx itself, which the agent does without."""

import random
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiler_agent.kernels.kernels import count_kernels, observe
from profiler_agent.ort.onnx_reader import read_graph
from profiler_agent.ort.sessions import local_runtime, optimise
from shared.errors import InvalidValue, LutnasError
from shared.graphs import build_network
from shared.kernels.kernel import parse_kernel
from shared.spaces import Darts, FBNet, Mobile, NasBench201, NasBenchMacro

SPACES = (
    NasBench201(resolution=16, channels=8, depth=2),
    NasBench201(resolution=12, channels=3, depth=1),
    Darts(resolution=16, channels=8, depth=5),
    FBNet(resolution=96, channels=16, depth=2),
    FBNet(resolution=32, channels=8, depth=1),
    NasBenchMacro(resolution=16, channels=8),
    Mobile(resolution=16, channels=8, depth=2),
)
RUNTIME = local_runtime()
AS_IT_IS = replace(RUNTIME, optimisation="disabled")


def networks(space, count=3):
    rng = random.Random(3)
    return [space.fastest(), *(space.sample(rng) for _ in range(count))]


@pytest.fixture(scope="module", params=SPACES, ids=str)
def of_space(request):
    return request.param, [(genotype, build_network(request.param, genotype)) for genotype in networks(request.param)]


def model(nodes, inputs, tensors=(), outputs=(), opset=17, ir_version=8):
    """A model whose outputs' types follow from the rest."""
    made = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    results = [onnx.ValueInfoProto(name=name) for name in outputs or nodes[-1].output]
    graph = helper.make_graph(nodes, "own", made, results, [numpy_helper.from_array(v, n) for n, v in tensors])
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version).SerializeToString()


def multiplied(counts):
    return sum(parse_kernel(text).multiply_adds() * n for text, n in counts.items())


def test_the_reader_sees_the_nodes_attributes_and_weights_that_onnx_sees(of_space, tmp_path) -> None:
    for _, content in of_space[1]:
        optimised = optimise("network", content, RUNTIME, tmp_path).read_bytes()
        found, graph = read_graph(optimised), onnx.load_from_string(optimised).graph
        assert len(found.nodes) == len(graph.node)
        for node, other in zip(found.nodes, graph.node, strict=True):
            assert (node.op_type, node.domain, node.name) == (other.op_type, other.domain, other.name)
            assert (node.inputs, node.outputs) == (list(other.input), list(other.output))
            assert node.attributes == {one.name: attribute(one) for one in other.attribute}
        for tensor in graph.initializer:
            assert found.tensors[tensor.name].sides == tuple(tensor.dims)
            assert bool(found.tensors[tensor.name].external) == (tensor.data_location == TensorProto.EXTERNAL)
        assert [one.name for one in found.inputs] == [one.name for one in graph.input]


def attribute(proto):
    value = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, int | float) else list(value)


def test_every_kernel_is_counted_and_its_string_form_survives(of_space, tmp_path) -> None:
    for _, content in of_space[1]:
        counts = count_kernels("network", content, RUNTIME)
        optimised = optimise("network", content, RUNTIME, tmp_path).read_bytes()
        assert sum(counts.values()) == len(onnx.load_from_string(optimised).graph.node)
        assert all(str(parse_kernel(text)) == text for text in counts)


def test_an_optimised_graph_multiplies_no_less_than_the_space_says(of_space) -> None:
    """NCHWc kernels pad channels to the width of a register, so it may multiply more."""
    space, built = of_space
    for genotype, content in built:
        assert multiplied(count_kernels("network", content, RUNTIME)) >= space.multiply_adds(genotype)


@pytest.mark.parametrize("space", [NasBench201(resolution=16, depth=1), Darts(resolution=16, depth=3)], ids=str)
def test_where_no_channels_are_padded_an_optimised_graph_multiplies_what_the_space_says(space) -> None:
    for genotype in networks(space):
        done = multiplied(count_kernels("network", build_network(space, genotype), RUNTIME))
        assert done == pytest.approx(space.multiply_adds(genotype), rel=0.02)


def test_without_optimisation_the_multiply_adds_agree_to_the_last_one(of_space) -> None:
    space, built = of_space
    for genotype, content in built:
        assert multiplied(count_kernels("network", content, AS_IT_IS)) == space.multiply_adds(genotype)


def test_observed_shapes_are_those_that_onnx_infers(of_space) -> None:
    for _, content in of_space[1]:
        inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
        shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in inferred.value_info}
        with observe("network", content, AS_IT_IS) as graph:
            found = {node.outputs[0]: kernel.outputs[0].sides for node, kernel in graph.kernels}
        assert {name: sides for name, sides in found.items() if name in shapes} == shapes


def test_results_come_in_parts_that_fit_into_memory(monkeypatch, of_space) -> None:
    content = of_space[1][1][1]
    together = count_kernels("network", content, RUNTIME)
    monkeypatch.setattr("profiler_agent.kernels.kernels.RESULT_BYTES", 10_000)
    assert count_kernels("network", content, RUNTIME) == together


def test_bytes_cut_off_or_damaged_anywhere_are_never_more_than_an_error_of_ours() -> None:
    rng = random.Random(0)
    content = build_network(SPACES[1], SPACES[1].fastest())
    for _ in range(60):
        cut = content[: rng.randrange(len(content))]
        damaged = bytearray(content)
        for _ in range(3):
            damaged[rng.randrange(min(len(content), 6000))] = rng.randrange(256)
        for data in (cut, bytes(damaged), bytes(rng.randbytes(rng.randrange(200)))):
            try:
                read_graph(data)
                count_kernels("damaged", data, RUNTIME)
            except LutnasError:
                continue


def test_an_if_is_one_kernel_and_what_its_branches_read_from_outside_belongs_to_it() -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["x", "w"], ["y"])], name, [], [onnx.ValueInfoProto(name="y")]
        )
        for name, operator in (("then_branch", "Add"), ("else_branch", "Mul"))
    }
    nodes = [helper.make_node("Relu", ["input"], ["x"]), helper.make_node("If", ["c"], ["out"], **branches)]
    inputs = [("input", TensorProto.FLOAT, (1, 4)), ("c", TensorProto.BOOL, ())]
    counts = count_kernels("if", model(nodes, inputs, [("w", np.ones((4, 1), np.float32))]), RUNTIME)
    assert {text.split("/else_branch")[0]: n for text, n in counts.items()} == {
        "Relu/1x4/1x4": 1,
        "If/s.b,1x4,w4x1/4x4": 1,
    }


@pytest.mark.parametrize(
    ("kind", "element"),
    [(TensorProto.INT64, "i64"), (TensorProto.FLOAT16, "f16"), (TensorProto.STRING, "str"), (TensorProto.BOOL, "b")],
)
def test_whatever_type_the_runtime_runs_is_counted(kind, element) -> None:
    content = model([helper.make_node("Unsqueeze", ["x", "a"], ["y"])], [("x", kind, (1, 4))], [("a", np.array([0]))])
    assert count_kernels("types", content, AS_IT_IS) == {f"Unsqueeze/1x4.{element},w1.i64/1x1x4.{element}": 1}


def test_what_depends_on_the_data_is_observed_and_said() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["found"]), helper.make_node("Cast", ["found"], ["y"], to=1)]
    with observe("data", model(nodes, [("x", TensorProto.INT64, (1, 40))]), RUNTIME) as graph:
        assert graph.depends_on_data
        found = {text.split("/")[0]: parse_kernel(text).outputs[0].sides for text in graph.counts()}
    assert found["NonZero"] == found["Cast"]
    assert 0 < found["Cast"][1] < 40


def test_defaults_of_inputs_are_no_constants_but_what_older_files_list_among_them_is() -> None:
    weight = np.ones((4, 4), np.float32)
    for ir_version, value in ((3, "w4x4"), (8, "4x4")):
        inputs = [("x", TensorProto.FLOAT, (1, 4)), ("w", TensorProto.FLOAT, (4, 4))]
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        content = model([node], inputs, [("w", weight)], opset=9, ir_version=ir_version)
        assert count_kernels("default", content, RUNTIME) == {f"MatMul/1x4,{value}/1x4": 1}


def test_what_is_no_kernel_is_refused() -> None:
    texts = ("", "Conv", "Conv/1x2/", "Conv/-1/1x2", "Conv/1x2/1x2/a b", "Conv/1x2/1x2/", "Gemm/" + "9x" * 9)
    for text in (*texts, f"Relu/{'9' * 5000}/1", "Relu/1x2,/1x2"):
        with pytest.raises(InvalidValue):
            parse_kernel(text).elements()


def test_a_convolution_without_weights_is_refused() -> None:
    with pytest.raises(InvalidValue, match="has no weights"):
        parse_kernel("Conv/1x3x8x8/1x4x8x8/kernel_shape=3x3").multiply_adds()


@pytest.mark.parametrize(
    ("text", "multiply_adds", "family"),
    [
        ("Conv/1x3x8x8,w4x3x5x5/1x4x8x8", 4 * 64 * 75, "Conv.dense.k5x5"),
        ("Conv/1x8x9,w8x1x3/1x8x9/dilations=2;group=8", 72 * 3, "Conv.depthwise.k3.dilated"),
        ("Conv/1x8x4x4x4,w8x4x1x1x1/1x8x4x4x4/group=2", 512 * 4, "Conv.grouped.k1x1x1"),
        ("ConvTranspose/1x8x4x4,w8x6x2x2/1x6x8x8", 8 * 16 * 24, "ConvTranspose.dense.k2x2"),
        ("Gemm/2x5,w7x5,w7/2x7/transB=1", 70, "Gemm"),
        ("MatMul/1x4x9x16,1x4x16x9/1x4x9x9", 4 * 81 * 16, "MatMul"),
        ("LSTM/10x1x8,w1x16x8,w1x16x4/10x1x1x4,1x1x4,1x1x4/hidden_size=4", 10 * (128 + 64), "LSTM"),
    ],
)
def test_sizes_and_families_follow_from_what_is_read_and_written(text, multiply_adds, family) -> None:
    assert (parse_kernel(text).multiply_adds(), parse_kernel(text).family) == (multiply_adds, family)
