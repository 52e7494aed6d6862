import numpy as np
import onnx
import onnxruntime
import pytest

from shared.errors import InvalidValue
from shared.graphs import build_graph, build_network, halve, network_parameter_shapes
from shared.measurements.graph_spec import NetworkGraph
from shared.spaces import FBNet

SPACE = FBNet(resolution=32, channels=8, depth=1)


def run(model: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    noise = np.random.default_rng(0).standard_normal(image.shape).astype(np.float32)
    return session.run(None, {image.name: noise})[0]


def test_an_fp16_network_has_half_precision_inside_and_the_same_inputs_and_outputs() -> None:
    spec = NetworkGraph(SPACE, SPACE.fastest())
    exact, half = build_graph(spec), build_graph(spec, precision="fp16")
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(half), strict_mode=True).graph
    assert {tensor.type.tensor_type.elem_type for tensor in inferred.value_info} == {onnx.TensorProto.FLOAT16}
    for before, after in zip(
        (*onnx.load_from_string(exact).graph.input, *onnx.load_from_string(exact).graph.output),
        (*inferred.input, *inferred.output),
        strict=True,
    ):
        assert before == after
    assert len(half) < 0.6 * len(exact)
    assert np.linalg.norm(run(half) - run(exact)) <= 0.01 * np.linalg.norm(run(exact))


def test_a_weight_that_half_precision_does_not_hold_is_named() -> None:
    tensors = {
        name: np.ones(shape, np.float32) for name, shape in network_parameter_shapes(SPACE, SPACE.fastest()).items()
    }
    name = next(name for name in tensors if name.endswith("linear.bias"))
    tensors[name] = np.full_like(tensors[name], 1e6)
    with pytest.raises(InvalidValue, match=r"linear\.bias"):
        halve(build_network(SPACE, SPACE.fastest(), tensors))
