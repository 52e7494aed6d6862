"""Graphs of one kernel, so often that long minus short is the marginal cost of exactly that kernel.

Copies follow one another where the shape stays. Where it does not, copies of a layer with weights share one input, as
layers in a network find theirs just written, and each has weights of its own; its output is read at one position
(a 1 x 1 pooling with a stride as long as the map), which keeps a runtime from dropping it and costs next to nothing.
Layers without weights get an input each: a runtime would merge copies that compute the same.

What a runtime makes of such a graph is counted like any other graph's kernels; what comes along (a reorder, the
reading) is told apart there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.errors import InvalidValue
from shared.graphs.writer import BATCH_NORM_EPSILON, IR_VERSION, OPSET
from shared.kernels.kernel import Kernel

Dimensions = tuple[int, ...]

LAYOUTS = ("nchwc.", "nhwc.", "ms.Fused")
"""A runtime's own forms of ordinary operators, by how their names begin."""
LARGEST_BLOCK = 16
"""Channels that ONNX Runtime's blocked layout keeps together where the processor has the widest registers; else 8."""
ACTIVATIONS = ("Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu")
KEEPERS = ("Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "Softmax", "BatchNormalization")
OF_TWO = ("Add", "Mul", "Sub", "Div", "Sum")
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
LINEAR = ("Gemm", "MatMul")
MOVERS = ("ReorderInput", "ReorderOutput", "Flatten", "Reshape", "Transpose")
"""What one of them did another would undo, or need not do."""
OTHERS = ("Concat", "ReduceMean", *MOVERS)
POINTWISE = "k1x1.s1x1.g1.d1x1"
BUILT = ("Conv", *LINEAR, *POOLS, *KEEPERS, *OF_TWO, *OTHERS)


def plain_operator(kernel: Kernel) -> str:
    """The ONNX operator that a runtime turns into this kernel.

    Raises:
        InvalidValue: no graph of this module makes such a kernel; the message names its operator.
    """
    name = kernel.op
    for layout in LAYOUTS:
        name = name.removeprefix(layout)
    if name not in BUILT:
        raise InvalidValue("kernel", f"{kernel.op} cannot be measured alone (can be: {', '.join(BUILT)})")
    return name


def keeps_shape(kernel: Kernel) -> bool:
    """Whether copies can follow one another."""
    operator = plain_operator(kernel)
    if "sum" in kernel.details.split("."):
        return True
    return kernel.input == kernel.output and operator not in MOVERS


def companions(kernel: Kernel) -> tuple[Kernel, ...]:
    """Kernels that come along with a kernel's graph and cost as much as it does: to be known by themselves.

    On runtimes that keep maps in another layout a layer on an input of its own brings the reordering of that input.
    """
    operator = plain_operator(kernel)
    if not kernel.op.startswith("nchwc.") and operator != "Concat":
        return ()
    batch, _, *sides = kernel.output
    if operator == "ReorderOutput":
        one_block = (batch, LARGEST_BLOCK, *sides)
        return (Kernel("nchwc.Conv", one_block, kernel.input, POINTWISE),)
    if operator == "ReorderInput":
        filled = kernel.output[1] % LARGEST_BLOCK == 0
        return () if filled else (Kernel("nchwc.Conv", kernel.input, (batch, LARGEST_BLOCK, *sides), POINTWISE),)
    if operator == "Concat":
        return (Kernel("nchwc.ReorderInput", kernel.output, kernel.output),) if len(sides) == 2 else ()
    if operator in POOLS:
        return (Kernel("nchwc.ReorderInput", kernel.input, kernel.input),)
    return ()


def build_kernel_graph(kernel: Kernel, copies: int, probed: bool = False) -> bytes:
    """The graph of `copies` times a kernel, with random weights. The same request gives the same bytes.

    Args:
        kernel: what a runtime shall execute.
        probed: side by side even where copies could follow one another.

    Raises:
        InvalidValue: the kernel's family cannot be built, or its shapes do not belong together.
    """
    return _KernelGraph(kernel, plain_operator(kernel)).build(copies, probed)


class _KernelGraph:
    """Nodes and weights of one graph in the making."""

    def __init__(self, kernel: Kernel, operator: str) -> None:
        self._kernel = kernel
        self._operator = operator
        self._parts = kernel.details.split(".")
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def build(self, copies: int, probed: bool) -> bytes:
        if self._operator == "ReorderOutput":
            return self._model(self._reordered_outputs(copies))
        if self._operator == "Conv":
            outputs = self._convolutions(copies, probed)
        elif self._operator in LINEAR:
            x = self._input(self._kernel.input)
            outputs = [self._activated(self._linear(x)) for _ in range(copies)]
        elif keeps_shape(self._kernel) and not probed:
            x = first = self._input(self._kernel.input)
            second = self._input(self._kernel.input) if self._operator in OF_TWO else first
            for _ in range(copies):
                x = self._elementwise(x, second)
            outputs = [x]
        else:
            outputs = [self._alone(self._input(self._kernel.input)) for _ in range(copies)]
        return self._model([self._joined(outputs, probed)])

    def _convolutions(self, copies: int, probed: bool) -> list[str]:
        """One after another where the shape stays; with a sum, each adds to what the one before it gave."""
        x = self._input(self._kernel.input)
        if "sum" in self._parts:
            total = self._node("Conv", [x, self._like_output()], **self._window(self._kernel.output))
            for _ in range(copies):
                total = self._activated(self._node("Add", [self._convolution(x), total]))
            return [total]
        if probed or not keeps_shape(self._kernel):
            return [self._activated(self._convolution(x)) for _ in range(copies)]
        for _ in range(copies):
            x = self._activated(self._convolution(x))
        return [x]

    def _convolution(self, x: str) -> str:
        groups, channels = int(self._detail("g")), self._kernel.input[1]
        kernel = self._sides("k")
        if groups < 1 or channels % groups or self._kernel.output[1] % groups:
            raise InvalidValue("kernel", f"{self._kernel}: {groups} groups do not divide its channels")
        weight = self._weight((self._kernel.output[1], channels // groups, *kernel))
        bias = self._constant(np.full(self._kernel.output[1], 0.1, np.float32))
        return self._node("Conv", [x, weight, bias], **self._window(self._kernel.output))

    def _like_output(self) -> str:
        groups = int(self._detail("g"))
        return self._weight((self._kernel.output[1], self._kernel.input[1] // groups, *self._sides("k")))

    def _window(self, output: Dimensions) -> dict[str, Any]:
        """Kernel, strides, dilations and the padding that gives the output its sides."""
        kernel, strides = self._sides("k"), self._sides("s")
        dilations = self._sides("d") if any(part.startswith("d") for part in self._parts) else (1, 1)
        before, after = [], []
        for axis in range(2):
            reach = dilations[axis] * (kernel[axis] - 1) + 1
            least = (output[2 + axis] - 1) * strides[axis] + reach - self._kernel.input[2 + axis]
            padding = max(least, 0)
            if padding > least + strides[axis] - 1:
                raise InvalidValue("kernel", f"{self._kernel}: no padding gives this output")
            if padding % 2 and padding + 1 <= least + strides[axis] - 1:
                padding += 1
            before.append(padding // 2)
            after.append(padding - padding // 2)
        window: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": [*before, *after]}
        if self._operator == "Conv":
            window |= {"dilations": dilations, "group": int(self._detail("g"))}
        return window

    def _linear(self, x: str) -> str:
        rows, columns = self._kernel.input[-1], self._kernel.output[-1]
        weight = self._weight((columns, rows) if self._operator == "Gemm" else (rows, columns))
        if self._operator == "MatMul":
            return self._node("MatMul", [x, weight])
        bias = self._constant(np.full(columns, 0.1, np.float32))
        return self._node("Gemm", [x, weight, bias], transB=1)

    def _elementwise(self, x: str, other: str) -> str:
        if self._operator in OF_TWO:
            return self._node(self._operator, [x, other])
        if self._operator == "Clip":
            return self._node("Clip", [x, *self._limits()])
        if self._operator == "BatchNormalization":
            ones, zeros = np.ones(self._kernel.input[1], np.float32), np.zeros(self._kernel.input[1], np.float32)
            tensors = [self._constant(values) for values in (ones, zeros, zeros, ones)]
            return self._node("BatchNormalization", [x, *tensors], epsilon=BATCH_NORM_EPSILON)
        if self._operator in POOLS or self._operator in OTHERS:
            return self._alone(x)
        return self._node(self._operator, [x])

    def _alone(self, x: str) -> str:
        """One copy on an input of its own."""
        output = self._kernel.output
        if self._operator in ("MaxPool", "AveragePool"):
            return self._node(self._operator, [x], **self._window(output))
        if self._operator in ("GlobalAveragePool", "GlobalMaxPool"):
            return self._node(self._operator, [x])
        if self._operator == "ReorderInput":
            # The reading wants the runtime's own layout; of maps that do not fill its blocks only convolutions do.
            return x if output[1] % LARGEST_BLOCK == 0 else self._narrow(x)
        if self._operator == "Concat":
            return self._concat(x)
        if self._operator == "Flatten":
            return self._node("Flatten", [x], axis=1)
        if self._operator == "Reshape":
            return self._node("Reshape", [x, self._constant(np.array(output, np.int64))])
        if self._operator == "Transpose":
            return self._node("Transpose", [x], perm=[int(axis) for axis in self._detail("p")])
        if self._operator == "ReduceMean":
            return self._node("ReduceMean", [x], axes=[2, 3], keepdims=int(len(output) == len(self._kernel.input)))
        return self._elementwise(x, self._input(self._kernel.input) if self._operator in OF_TWO else x)

    def _narrow(self, x: str) -> str:
        """A 1 x 1 convolution to one block of channels, cheap and known by itself."""
        return self._node("Conv", [x, self._weight((LARGEST_BLOCK, self._kernel.input[1], 1, 1))])

    def _reordered_outputs(self, copies: int) -> list[str]:
        """Outputs of the graph leave the runtime's own layout; a cheap convolution makes each of them."""
        batch, channels, *sides = self._kernel.output
        x = self._input((batch, LARGEST_BLOCK, *sides))
        return [self._node("Conv", [x, self._weight((channels, LARGEST_BLOCK, 1, 1))]) for _ in range(copies)]

    def _concat(self, x: str) -> str:
        """The first part has the kernel's input; the others share the rest of the channels."""
        first, output, parts = self._kernel.input, self._kernel.output, int(self._detail("n"))
        axis = next((i for i, (a, b) in enumerate(zip(first, output, strict=True)) if a != b), 1)
        rest, count = output[axis] - first[axis], parts - 1
        if count < 1 or rest < count:
            raise InvalidValue("kernel", f"{self._kernel}: {parts} parts do not add up to its output")
        sides = [rest // count + (index < rest % count) for index in range(count)]
        others = [self._input((*first[:axis], side, *first[axis + 1 :])) for side in sides]
        return self._node("Concat", [x, *others], axis=axis)

    def _activated(self, x: str) -> str:
        activation = self._parts[-1] if self._parts[-1] in ACTIVATIONS else None
        if activation is None:
            return x
        return self._node(activation, [x, *(self._limits() if activation == "Clip" else [])])

    def _limits(self) -> list[str]:
        return [self._constant(np.array(limit, np.float32)) for limit in (0.0, 6.0)]

    def _joined(self, outputs: list[str], probed: bool) -> str:
        """One output, so that every copy is wanted: each map read at one position, and what was read added up."""
        is_map = self._operator == "Conv" or math.prod(self._kernel.output[2:]) > 1
        side_by_side = probed or self._operator in (*LINEAR, *MOVERS) or not keeps_shape(self._kernel)
        if side_by_side and len(self._kernel.output) == 4 and is_map:
            stride = list(self._kernel.output[2:])
            outputs = [self._node("MaxPool", [tensor], kernel_shape=[1, 1], strides=stride) for tensor in outputs]
        total = outputs[0]
        # An addition after a MatMul would become part of it.
        join = "Mul" if self._operator == "MatMul" else "Add"
        for tensor in outputs[1:]:
            total = self._node(join, [total, tensor])
        return total

    def _sides(self, letter: str) -> list[int]:
        return [int(side) for side in self._detail(letter).split("x")]

    def _detail(self, letter: str) -> str:
        for part in self._parts:
            if part.startswith(letter) and part[1:].replace("x", "").isdigit():
                return part[1:]
        raise InvalidValue("kernel", f"{self._kernel} has no detail '{letter}'")

    def _input(self, dimensions: Dimensions) -> str:
        name = f"input{len(self._inputs)}"
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dimensions))
        return name

    def _weight(self, shape: Dimensions) -> str:
        """He-scaled, as everywhere: no value becomes denormal."""
        fan_in = math.prod(shape[1:]) if len(shape) > 2 else max(shape)
        return self._constant(self._random.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan_in)))

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"weight{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def _model(self, outputs: list[str]) -> bytes:
        rank = len(self._kernel.output)
        results = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [None] * rank) for tensor in outputs]
        graph = helper.make_graph(self._nodes, "lutnas", self._inputs, results, self._weights)
        model = helper.make_model(
            graph, producer_name="lutnas", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())
