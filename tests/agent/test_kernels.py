"""Kernel counts against onnx itself, which the agent does without."""

import random

import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from profiler_agent.kernels.kernels import UnknownOperator, count_kernels
from profiler_agent.ort.onnx_reader import read_graph
from shared.errors import InvalidValue, LutnasError
from shared.graphs import build_network
from shared.kernels.kernel import parse_kernel
from shared.spaces import Darts, FBNet, NasBench201

SPACES = (
    NasBench201(resolution=16, channels=8, depth=2),
    NasBench201(resolution=12, channels=3, depth=1),
    Darts(resolution=16, channels=8, depth=5),
    FBNet(resolution=96, channels=16, depth=2),
    FBNet(resolution=32, channels=8, depth=1),
)
LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def optimise(model: bytes, tmp_path, level: str = "all") -> bytes:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return (tmp_path / "optimised.onnx").read_bytes()


def networks(space, count=3):
    rng = random.Random(3)
    return [space.fastest(), *(space.sample(rng) for _ in range(count))]


@pytest.fixture(scope="module", params=SPACES, ids=str)
def optimised(request, tmp_path_factory):
    space, folder = request.param, tmp_path_factory.mktemp("models")
    return [(space, genotype, optimise(build_network(space, genotype), folder)) for genotype in networks(space)]


def test_the_reader_sees_the_nodes_attributes_and_weights_that_onnx_sees(optimised) -> None:
    for _, _, content in optimised:
        found, graph = read_graph(content), onnx.load_from_string(content).graph
        assert len(found.nodes) == len(graph.node)
        for node, other in zip(found.nodes, graph.node, strict=True):
            assert (node.op_type, node.domain, node.name) == (other.op_type, other.domain, other.name)
            assert (node.inputs, node.outputs) == (list(other.input), list(other.output))
            assert node.attributes == {a.name: attribute(a) for a in other.attribute if attribute(a) is not None}
        for tensor in graph.initializer:
            assert found.dimensions[tensor.name] == tuple(tensor.dims)
            if tensor.data_type == onnx.TensorProto.INT64:
                assert found.integers[tensor.name] == numpy_helper.to_array(tensor).ravel().tolist()
        for value in graph.input:
            assert found.dimensions[value.name] == tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def attribute(proto):
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float):
        return pytest.approx(value) if isinstance(value, float) else value
    return list(value) if len(value) and isinstance(value[0], int) else None


def test_every_kernel_is_counted_and_its_string_form_survives(optimised) -> None:
    for _, _, content in optimised:
        counts = count_kernels(content)
        nodes = [n for n in onnx.load_from_string(content).graph.node if n.op_type not in ("Constant", "Identity")]
        assert sum(counts.values()) == len(nodes)
        assert all(str(parse_kernel(text)) == text for text in counts)


def test_an_optimised_graph_multiplies_no_less_than_the_space_says(optimised) -> None:
    """NCHWc kernels pad channels to the width of a register, so it may multiply more."""
    for space, genotype, content in optimised:
        done = sum(parse_kernel(text).multiply_adds() * n for text, n in count_kernels(content).items())
        assert done >= space.multiply_adds(genotype)


@pytest.mark.parametrize("space", [NasBench201(resolution=16, depth=1), Darts(resolution=16, depth=3)], ids=str)
def test_where_no_channels_are_padded_an_optimised_graph_multiplies_what_the_space_says(space, tmp_path) -> None:
    for genotype in networks(space):
        content = optimise(build_network(space, genotype), tmp_path)
        done = sum(parse_kernel(text).multiply_adds() * n for text, n in count_kernels(content).items())
        assert done == pytest.approx(space.multiply_adds(genotype), rel=0.02)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_without_optimisation_the_multiply_adds_agree_to_the_last_one(space, tmp_path) -> None:
    for genotype in networks(space):
        content = optimise(build_network(space, genotype), tmp_path, "disabled")
        done = sum(parse_kernel(text).multiply_adds() * n for text, n in count_kernels(content).items())
        assert done == space.multiply_adds(genotype)


def test_shapes_that_are_carried_along_are_those_that_onnx_infers(tmp_path) -> None:
    for space in SPACES:
        genotype = networks(space)[1]
        plain = optimise(build_network(space, genotype), tmp_path, "disabled")
        graph = read_graph(plain)
        inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(plain)).graph
        count_kernels(plain)
        shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in inferred.value_info}
        counted = {tuple(parse_kernel(text).output) for text in count_kernels(plain)}
        assert {shapes[name] for node in graph.nodes for name in node.outputs if name in shapes} <= counted


def test_bytes_cut_off_or_damaged_anywhere_are_never_more_than_an_error_of_ours(optimised) -> None:
    rng = random.Random(0)
    _, _, content = optimised[1]
    for _ in range(150):
        cut = content[: rng.randrange(len(content))]
        damaged = bytearray(content)
        for _ in range(3):
            damaged[rng.randrange(min(len(content), 6000))] = rng.randrange(256)
        for data in (cut, bytes(damaged), bytes(rng.randbytes(rng.randrange(200)))):
            try:
                count_kernels(data)
            except LutnasError:
                continue


def test_an_operator_that_the_counter_does_not_know_is_named() -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    node = onnx.helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2)
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out]))
    with pytest.raises(UnknownOperator, match="DepthToSpace"):
        count_kernels(model.SerializeToString())


def test_what_is_no_kernel_is_refused() -> None:
    for text in ("", "Conv", "Conv/1x2/", "Conv/0x2/1x2", "Conv/1x2/1x2/a b", "Conv/1x2/1x2/", "Gemm/" + "9x" * 9):
        with pytest.raises(InvalidValue):
            parse_kernel(text)


def test_a_convolution_without_its_details_says_which_one_is_missing() -> None:
    kernel = parse_kernel("Conv/1x3x8x8/1x4x8x8/k3x3")
    with pytest.raises(InvalidValue, match="'g'"):
        kernel.multiply_adds()


def test_a_model_that_keeps_a_shape_that_depends_on_the_input_is_named(tmp_path) -> None:
    values = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4]),
        onnx.helper.make_tensor_value_info("s", onnx.TensorProto.INT64, [2]),
    ]
    node = onnx.helper.make_node("Reshape", ["x", "s"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values, [out]))
    with pytest.raises(UnknownOperator, match="run time"):
        count_kernels(model.SerializeToString())
