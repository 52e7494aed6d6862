"""The int8 graphs, against ONNX Runtime's optimised graphs and the numbers of the fp32 network."""

import random
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from shared.errors import InvalidValue
from shared.graphs import activation_names, build_graph, build_network, quantise
from shared.measurements.graph_spec import CanaryGraph, ChainGraph, NetworkGraph, ParallelGraph
from shared.spaces import Darts, FBNet, Mobile, NasBench201, NasBenchMacro
from shared.spaces.op_key import OpKey

SPACES = (
    NasBench201(resolution=16, channels=8, depth=2),
    Darts(resolution=16, channels=8, depth=5),
    FBNet(resolution=64, channels=16, depth=2),
    NasBenchMacro(resolution=16, channels=16),
    Mobile(resolution=16, channels=16, depth=2),
)
KEYS = {(key.primitive, key.keeps_shape): key for space in SPACES for key in space.op_keys()}.values()
INTEGER_KERNELS = {
    *("QLinearConv", "QLinearAdd", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearConcat", "QGemm"),
    *("NhwcMaxPool", "MaxPool", "Clip", "Slice", "Reshape", "Transpose", "Flatten"),
}
EDGES = Counter({"QuantizeLinear": 1, "DequantizeLinear": 1})


def optimised(model: bytes, tmp_path) -> Counter[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


def run(model: bytes, seed: int = 0, outputs: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Output and inputs by name, and tensors inside the graph on request."""
    parsed = onnx.load_from_string(model)
    known = {tensor.name for tensor in (*parsed.graph.output, *parsed.graph.input)}
    parsed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in known)
    options = onnxruntime.SessionOptions()
    if outputs:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(parsed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    feeds = {input_.name: rng.standard_normal(input_.shape).astype(np.float32) for input_ in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True)) | feeds


def measured_ranges(model: bytes, images: int = 4) -> dict[str, tuple[float, float]]:
    names = activation_names(model)
    seen = [run(model, 100 + image, names) for image in range(images)]
    return {
        name: (min(float(values[name].min()) for values in seen), max(float(values[name].max()) for values in seen))
        for name in names
    }


@pytest.fixture(scope="session")
def weight_limit(saturates) -> int:
    """Of the weights that this processor computes exactly."""
    return 64 if saturates else 127


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_whole_networks_run_in_integer_kernels_between_one_quantise_and_one_dequantise(space, tmp_path) -> None:
    rng = random.Random(5)
    for genotype in [space.fastest(), *(space.sample(rng) for _ in range(3))]:
        found = optimised(build_graph(NetworkGraph(space, genotype), precision="int8"), tmp_path)
        assert {name: found[name] for name in EDGES} == EDGES
        assert set(found) - set(EDGES) <= INTEGER_KERNELS
        assert found["QLinearConv"] > 0


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_marginal_cost_of_an_op_holds_its_integer_kernels_and_nothing_of_the_graphs_edges(
    key: OpKey, tmp_path
) -> None:
    spec = ChainGraph if key.keeps_shape else ParallelGraph
    eight, two = (optimised(build_graph(spec(copies, key), precision="int8"), tmp_path) for copies in (8, 2))
    difference = Counter({name: eight[name] - two[name] for name in eight})
    shuffles = 6 if key.primitive.endswith("_g2") else 0  # their layout is changed for it, and back
    assert difference["QuantizeLinear"] == difference["DequantizeLinear"] == 0
    assert difference["Transpose"] <= 2 * shuffles
    assert all(n % 6 == 0 for n in difference.values())
    assert set(eight) - set(EDGES) <= INTEGER_KERNELS


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_with_measured_ranges_the_output_is_near_that_of_fp32_on_other_images(space, weight_limit) -> None:
    rng = random.Random(6)
    for _ in range(2):
        model = build_network(space, space.sample(rng))
        integer = quantise(model, measured_ranges(model), weight_limit)
        exact, near = run(model)["output"], run(integer)["output"]
        assert np.linalg.norm(near - exact) <= 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_without_ranges_no_activation_of_a_random_network_is_constant(space) -> None:
    rng = random.Random(7)
    model = build_graph(NetworkGraph(space, space.sample(rng)), precision="int8")
    inside = tuple(
        node.output[0] for node in onnx.load_from_string(model).graph.node if node.op_type == "QuantizeLinear"
    )
    values = run(model, outputs=inside)
    assert min(len(np.unique(values[name])) for name in inside) >= 6


def network(nodes, constants, channels=4) -> bytes:
    image = helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, channels, 8, 8])
    result = helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1, channels, 8, 8])
    tensors = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [image], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("readers", [1, 2])
def test_an_activation_with_bounds_is_exact_whether_or_not_others_read_what_it_reads(
    readers, weight_limit, tmp_path
) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 4, 1, 1)) * 4
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Add", ["b", "a" if readers == 2 else "b"], ["output"]),
    ]
    model = network(nodes, {"w": weight, "low": 0.0, "high": 6.0})
    integer = quantise(model, measured_ranges(model), weight_limit)
    assert optimised(integer, tmp_path)["Clip"] == readers - 1
    exact, near = run(model)["output"], run(integer)["output"]
    assert np.abs(near - exact).max() <= 0.03 * 127 / weight_limit * np.abs(exact).max()  # fewer bits, coarser steps
    if readers == 1:
        assert near.min() == 0
        assert near.max() == pytest.approx(12, rel=0.01)


def test_weights_have_a_scale_per_channel_and_no_zero_point_and_biases_the_product_of_scales() -> None:
    weight = np.zeros((4, 4, 1, 1), np.float32)
    weight[0, 0], weight[1, 1] = 0.5, -200.0
    nodes = [helper.make_node("Conv", ["input", "w", "bias"], ["output"])]
    model = quantise(
        network(nodes, {"w": weight, "bias": [1.0, 2.0, 0.0, 0.0]}), {"input": (-1.0, 1.0), "output": (-9, 9)}
    )
    initializers = onnx.load_from_string(model).graph.initializer
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in initializers}
    assert tensors["w.q"].dtype == np.int8
    assert tensors["w.q"][:2].reshape(2, -1).tolist() == [[127, 0, 0, 0], [0, -127, 0, 0]]
    assert tensors["w.scale"][:2] == pytest.approx([0.5 / 127, 200 / 127])
    assert not tensors["w.zero"].any()
    bias = next(value for value in tensors.values() if value.dtype == np.int32 and value.any())
    assert bias[:2] * tensors["input.scale"] * tensors["w.scale"][:2] == pytest.approx([1.0, 2.0], rel=0.01)
    assert np.isfinite(run(model)["output"]).all()


def test_the_canary_is_fp32_in_every_precision_and_the_same_request_gives_the_same_bytes() -> None:
    assert len({build_graph(CanaryGraph(), precision=precision) for precision in ("fp32", "fp16", "int8")}) == 1
    spec = NetworkGraph(SPACES[0], SPACES[0].fastest())
    assert build_graph(spec, precision="int8") == build_graph(spec, precision="int8") != build_graph(spec)


def test_a_batch_of_images_is_quantised_like_one() -> None:
    spec = NetworkGraph(SPACES[2], SPACES[2].sample(random.Random(0)))
    assert run(build_graph(spec, 3, "int8"))["output"].shape == (3, SPACES[2].classes)


def test_what_cannot_be_quantised_is_refused_by_name() -> None:
    with pytest.raises(InvalidValue, match="int4"):
        build_graph(CanaryGraph(), precision="int4")
    with pytest.raises(InvalidValue, match="Softmax"):
        quantise(network([helper.make_node("Softmax", ["input"], ["output"])], {}))
    with pytest.raises(InvalidValue, match=r"a Gemm with \{\}"):
        quantise(
            network([helper.make_node("Gemm", ["input", "w"], ["output"])], {"w": np.eye(8)}),
            dict.fromkeys(("input", "output"), (0.0, 1.0)),
        )
    with pytest.raises(InvalidValue, match="'input' from 3"):
        quantise(network([helper.make_node("Relu", ["input"], ["output"])], {}), {"input": (3.0, float("nan"))})
