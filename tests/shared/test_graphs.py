import random
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from shared.errors import InvalidValue
from shared.graphs import build_graph, build_network, network_parameter_shapes
from shared.measurements.graph_spec import CanaryGraph, ChainGraph, NetworkGraph, UploadedModel, parse_graph_spec
from shared.spaces import Genotype, NasBench201
from shared.spaces.op_key import OpKey

SPACE = NasBench201(resolution=16, channels=4, depth=2)


def run(model: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    noise = np.random.default_rng(0).standard_normal(image.shape).astype(np.float32)
    (output,) = session.run(None, {image.name: noise})
    return output


@pytest.mark.parametrize("key", [*SPACE.op_keys(), *SPACE.fixed_ops()], ids=str)
def test_every_op_of_the_space_has_a_graph_that_runs_at_its_shapes(key: OpKey) -> None:
    output = run(build_graph(ChainGraph(1, key), batch=2))
    expected = (2, key.output.channels) if key.primitive == "classifier" else (2, *shape_of(key))
    assert output.shape == expected
    assert np.isfinite(output).all()


def shape_of(key: OpKey) -> tuple[int, int, int]:
    return key.output.channels, key.output.height, key.output.width


def test_a_network_holds_the_ops_that_reach_the_output_and_no_other() -> None:
    dangling = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|")
    model = onnx.load_from_string(build_network(SPACE, dangling))
    kinds = Counter(node.op_type for node in model.graph.node)
    cells = 3 * SPACE.depth
    fixed_convs = 1 + 2 * 3
    assert kinds["Conv"] == fixed_convs
    assert kinds["AveragePool"] == cells + 2
    consumed = {name for node in model.graph.node for name in node.input} | {"output"}
    assert all(output in consumed for node in model.graph.node for output in node.output)


def test_activations_of_random_networks_stay_ordinary_numbers() -> None:
    rng = random.Random(0)
    for _ in range(10):
        output = np.abs(run(build_network(SPACE, SPACE.sample(rng))))
        assert np.isfinite(output).all()
        assert output.max() > 1e-6


def test_the_same_request_gives_the_same_bytes() -> None:
    spec = NetworkGraph(SPACE, Genotype(("nor_conv_3x3",) * 6))
    assert build_graph(spec) == build_graph(spec)


@pytest.mark.parametrize(
    "spec",
    [CanaryGraph(), ChainGraph(8, SPACE.op_keys()[0]), NetworkGraph(SPACE, SPACE.fastest()), UploadedModel("0" * 64)],
    ids=lambda spec: type(spec).__name__,
)
def test_a_graph_reference_survives_its_string_form(
    spec: CanaryGraph | ChainGraph | NetworkGraph | UploadedModel,
) -> None:
    assert parse_graph_spec(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    ["", "canary:other", "chain:8", "chain:0:x", "model:abc", "network:nas-bench-201/r32/c16/n1/k10/i3:|none~0|"],
)
def test_a_text_that_is_no_graph_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_graph_spec(text)


def test_a_network_that_is_not_connected_is_refused() -> None:
    with pytest.raises(InvalidValue, match="does not connect"):
        build_network(SPACE, Genotype(("none",) * 6))


def test_given_weights_that_are_missing_misshapen_or_not_finite_are_refused_by_name() -> None:
    shapes = network_parameter_shapes(SPACE, SPACE.fastest())
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(InvalidValue, match=r"stem\.conv\.weight.*missing"):
        build_network(SPACE, SPACE.fastest(), {k: v for k, v in tensors.items() if k != "stem.conv.weight"})
    with pytest.raises(InvalidValue, match=r"stem\.conv\.weight.*needs"):
        build_network(SPACE, SPACE.fastest(), {**tensors, "stem.conv.weight": np.ones((1, 1, 3, 3), np.float32)})
    with pytest.raises(InvalidValue, match="not finite"):
        build_network(SPACE, SPACE.fastest(), {**tensors, "stem.bn.bias": np.full(4, np.nan, np.float32)})


def test_metadata_is_written_into_the_file() -> None:
    model = onnx.load_from_string(build_network(SPACE, SPACE.fastest(), metadata={"input_layout": "NCHW"}))
    assert {prop.key: prop.value for prop in model.metadata_props} == {"input_layout": "NCHW"}
