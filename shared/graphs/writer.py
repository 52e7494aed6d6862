"""A writer of ONNX nodes for convolutional networks. It folds a batch norm into its convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from shared.graphs.weights import Weights
from shared.protobuf import varint
from shared.spaces.primitives import BATCH_NORM_TENSORS, Writer

OPSET = 17
IR_VERSION = 8
"""Every ONNX Runtime since 1.14 reads it."""
BATCH_NORM_EPSILON = 1e-5

_GRAPH, _INITIALIZER, _RAW_DATA = b"\x3a", b"\x2a", b"\x4a"
"""Fields 7 of a model, 5 of a graph and 9 of a tensor, as protocol buffers write them."""
Floats = NDArray[np.float32]


class GraphWriter(Writer):
    """Collects nodes and weights."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[bytes | memoryview] = []
        self._activated: dict[str, str] = {}
        self._constants: set[str] = set()

    def conv(
        self,
        x: str,
        prefix: str,
        sides: tuple[int, int, int],
        stride: int = 1,
        batch_norm: str | None = None,
        groups: int = 1,
        dilation: int = 1,
    ) -> str:
        """A batch norm is folded in."""
        weight = self._weights(f"{prefix}.weight")
        inputs = [x]
        if batch_norm is None:
            inputs.append(self._constant(f"{prefix}.weight", weight))
        else:
            scale, shift = self._affine(batch_norm)
            inputs.append(self._constant(f"{prefix}.weight", weight * scale[:, None, None, None]))
            inputs.append(self._constant(f"{prefix}.bias", shift))
        kernel = sides[2]
        # Attributes with their default value are left out, so that the bytes of older graphs stay
        # the same.
        unusual: dict[str, Any] = {"group": groups} if groups > 1 else {}
        if dilation > 1:
            unusual["dilations"] = [dilation, dilation]
        usual = {"kernel_shape": [kernel, kernel], "strides": [stride, stride]}
        return self._node("Conv", inputs, **usual, pads=[dilation * (kernel - 1) // 2] * 4, **unusual)

    def batch_norm(self, x: str, prefix: str, channels: int) -> str:
        tensors = [
            self._constant(f"{prefix}.{field}", self._weights(f"{prefix}.{field}")) for field in BATCH_NORM_TENSORS
        ]
        return self._node("BatchNormalization", [x, *tensors], epsilon=BATCH_NORM_EPSILON)

    def relu(self, x: str) -> str:
        """ReLU. Ops that activate the same tensor share a node."""
        if x not in self._activated:
            self._activated[x] = self._node("Relu", [x])
        return self._activated[x]

    def pool(self, x: str, kind: str, kernel: int, stride: int, padding: int) -> str:
        sides = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": [padding] * 4}
        return self._node(f"{kind}Pool", [x], **sides, **({"count_include_pad": 0} if kind == "Average" else {}))

    def sum(self, terms: list[str]) -> str:
        """Sum in pairs: ONNX Runtime fuses a sum of two into the convolution before it."""
        total = terms[0]
        for term in terms[1:]:
            total = self._node("Add", [total, term])
        return total

    def concat(self, parts: list[str]) -> str:
        return self._node("Concat", parts, axis=1) if len(parts) > 1 else parts[0]

    def shifted(self, x: str) -> str:
        starts = self._constant("shift.starts", np.array([1, 1], np.int64))
        ends = self._constant("shift.ends", np.array([np.iinfo(np.int32).max] * 2, np.int64))
        axes = self._constant("shift.axes", np.array([2, 3], np.int64))
        return self._node("Slice", [x, starts, ends, axes])

    def channel_shuffle(self, x: str, shape: tuple[int, int, int], groups: int) -> str:
        channels, height, width = shape
        split = self._constant(f"shape.{len(self._nodes)}", np.array([0, groups, channels // groups, height, width]))
        merged = self._constant(f"shape.{len(self._nodes) + 2}", np.array([0, channels, height, width]))
        grouped = self._node("Reshape", [x, split])
        return self._node("Reshape", [self._node("Transpose", [grouped], perm=[0, 2, 1, 3, 4]), merged])

    def pooled_features(self, x: str) -> str:
        return self._node("Flatten", [self._node("GlobalAveragePool", [x])], axis=1)

    def linear(self, x: str, prefix: str, before: int, after: int) -> str:
        weight = self._constant(f"{prefix}.weight", self._weights(f"{prefix}.weight"))
        bias = self._constant(f"{prefix}.bias", self._weights(f"{prefix}.bias"))
        return self._node("Gemm", [x, weight, bias], transB=1)

    def model(
        self,
        output: str,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        metadata: Mapping[str, str],
        inputs: Sequence[str] = ("input",),
    ) -> bytes:
        """The bytes of the graph; its inputs have the same shape, `output` becomes "output"."""
        for node in self._nodes:
            node.output[:] = ["output" if name == output else name for name in node.output]
            node.input[:] = ["output" if name == output else name for name in node.input]
        nodes = onnx.GraphProto(node=self._nodes, name="lutnas")
        ends = onnx.GraphProto(
            input=[helper.make_tensor_value_info(name, TensorProto.FLOAT, input_shape) for name in inputs],
            output=[helper.make_tensor_value_info("output", TensorProto.FLOAT, output_shape)],
        )
        head = onnx.ModelProto(ir_version=IR_VERSION, producer_name="lutnas")
        tail = onnx.ModelProto(opset_import=[helper.make_opsetid("", OPSET)])
        helper.set_model_props(tail, dict(metadata))
        # Joined once, in the order of the fields: onnx would keep all weights six times.
        parts = [nodes.SerializeToString(), *self._initializers, ends.SerializeToString()]
        size = varint(sum(map(len, parts)))
        model = b"".join((head.SerializeToString(), _GRAPH, size, *parts, tail.SerializeToString()))
        self._initializers.clear()
        parts.clear()
        onnx.checker.check_model(model)
        return model

    def _affine(self, prefix: str) -> tuple[Floats, Floats]:
        weight, bias, mean, variance = (self._weights(f"{prefix}.{field}") for field in BATCH_NORM_TENSORS)
        scale = weight / np.sqrt(variance + np.float32(BATCH_NORM_EPSILON))
        return scale, bias - mean * scale

    def _constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        if name not in self._constants:
            self._constants.add(name)
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            head = onnx.TensorProto(dims=value.shape, data_type=kind, name=name).SerializeToString()
            content = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
            head += _RAW_DATA + varint(len(content))
            self._initializers += (_INITIALIZER + varint(len(head) + len(content)) + head, content)
        return name

    def _node(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name
