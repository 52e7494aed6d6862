"""Which kernels a runtime executes for a graph: the optimised graph, read back, with shapes carried along.

ONNX Runtime writes the graph that it will execute, but without the shapes between its nodes. Those follow from the
inputs and the weights for the operators of convolutional networks.

Kernels whose maps have their channels last (integer kernels on processors) are "nhwc." and told as if they came first,
like all others: batch, channels, height, width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from profiler_agent.ort.onnx_reader import Graph, Node, read_graph
from shared.errors import CorruptFile, LutnasError
from shared.kernels.kernel import Kernel

Dimensions = tuple[int, ...]

_DOMAINS = {
    "": "",
    "ai.onnx": "",
    "com.microsoft": "ms.",
    "com.microsoft.nchwc": "nchwc.",
    "com.ms.internal.nhwc": "nhwc.",
}
_FREE = ("Identity",)
"""Operators that a runtime executes without work."""

_SHAPE_KEEPERS = (
    *("Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "QuickGelu", "Softmax", "Tanh", "Elu"),
    *("Selu", "Softplus", "Softsign", "Mish", "Gelu", "FastGelu", "PRelu", "Erf", "Exp", "Log", "Sqrt", "Neg", "Abs"),
    *("Reciprocal", "LRN", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "LogSoftmax"),
    *("BatchNormalization", "Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear"),
    *("ReorderInput", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"),
)
_NHWC = "com.ms.internal.nhwc"


class UnknownOperator(LutnasError):
    """An operator whose output shape is not known here."""


def count_kernels(optimised_model: bytes) -> Counter[str]:
    """Kernels of an optimised model, by string form.

    Raises:
        CorruptFile: the bytes are not an ONNX model.
        UnknownOperator: the graph holds an operator that this module does not know; the message names it.
    """
    graph = read_graph(optimised_model)
    try:
        return _count(graph)
    except LutnasError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CorruptFile(f"not a valid ONNX model: {type(error).__name__} while its shapes were followed") from error


def _count(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op_type in ("Constant",):
            continue
        output = _output_dimensions(node, graph)
        for name in node.outputs:
            graph.dimensions.setdefault(name, output)
        if node.op_type not in _FREE:
            before, after = _channels_first(node, _main_input(node, graph)), _channels_first(node, output)
            counts[str(Kernel(_operator(node), before, after, _details(node, graph)))] += 1
    return counts


def _operator(node: Node) -> str:
    if node.attributes.get("channels_last"):
        return _DOMAINS[_NHWC] + node.op_type
    return _DOMAINS.get(node.domain, node.domain + ".") + node.op_type


def _input(node: Node, graph: Graph, index: int = 0) -> Dimensions:
    name = node.inputs[index]
    if name not in graph.dimensions:
        raise UnknownOperator(f"the shape of '{name}' before {_operator(node)} is not known")
    return graph.dimensions[name] or (1,)


def _main_input(node: Node, graph: Graph) -> Dimensions:
    return _input(node, graph, 2 if node.op_type == "QLinearConcat" else 0)


def _is_channels_last(node: Node) -> bool:
    return bool(node.attributes.get("channels_last")) or node.op_type == "NhwcMaxPool" or node.domain == _NHWC


def _channels_first(node: Node, stored: Dimensions) -> Dimensions:
    return (stored[0], stored[-1], *stored[1:-1]) if _is_channels_last(node) and len(stored) > 2 else stored


def _as_stored(node: Node, shape: Dimensions) -> Dimensions:
    return (shape[0], *shape[2:], shape[1]) if _is_channels_last(node) else shape


def _output_dimensions(node: Node, graph: Graph) -> Dimensions:
    rule = _SHAPE_RULES.get(node.op_type)
    if rule is None:
        raise UnknownOperator(f"operator {_operator(node)} is not known to the kernel counter")
    return rule(node, graph)


def _pair(node: Node, name: str, default: int = 1) -> tuple[int, int]:
    value = node.attributes.get(name)
    if isinstance(value, list) and len(value) == 2:
        return value[0], value[1]
    if isinstance(value, list) and len(value) == 1:
        return value[0], 1
    return default, default


def _window(node: Node, dimensions: Dimensions, kernel: tuple[int, int], channels: int) -> Dimensions:
    """Sides after a window slid over a map (ONNX: floor, or ceil where asked for)."""
    strides, dilations = _pair(node, "strides"), _pair(node, "dilations")
    pads = node.attributes.get("pads")
    padding = pads if isinstance(pads, list) and len(pads) == 4 else [0, 0, 0, 0]
    if node.attributes.get("auto_pad") in ("SAME_UPPER", "SAME_LOWER"):
        sides = [math.ceil(side / stride) for side, stride in zip(dimensions[2:], strides, strict=False)]
        return (dimensions[0], channels, *sides)
    rounding = math.ceil if node.attributes.get("ceil_mode") else math.floor
    sides = []
    for axis in range(2):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        room = dimensions[2 + axis] + padding[axis] + padding[2 + axis] - reach
        sides.append(rounding(room / strides[axis]) + 1)
    return (dimensions[0], channels, *sides)


def _kernel_sides(node: Node, graph: Graph) -> tuple[int, int]:
    if "kernel_shape" in node.attributes:
        return _pair(node, "kernel_shape")
    weights = _input(node, graph, _weight_index(node))
    return weights[2], weights[3]


def _convolution(node: Node, graph: Graph) -> Dimensions:
    x, weights = _channels_first(node, _input(node, graph)), _input(node, graph, _weight_index(node))
    return _as_stored(node, _window(node, x, _kernel_sides(node, graph), weights[0]))


def _weight_index(node: Node) -> int:
    return 3 if node.op_type == "QLinearConv" else 1


def _pool(node: Node, graph: Graph) -> Dimensions:
    x = _channels_first(node, _input(node, graph))
    return _as_stored(node, _window(node, x, _pair(node, "kernel_shape"), x[1]))


def _same(node: Node, graph: Graph) -> Dimensions:
    return _input(node, graph)


def _reorder_output(node: Node, graph: Graph) -> Dimensions:
    """Inside the runtime's own layout channels are padded to whole blocks; here the padding ends."""
    x, channels = _input(node, graph), node.attributes.get("channels")
    return (x[0], channels, *x[2:]) if isinstance(channels, int) else x


def _broadcast(node: Node, graph: Graph) -> Dimensions:
    shapes = [_input(node, graph, index) for index, name in enumerate(node.inputs) if name]
    return max(shapes, key=lambda shape: (len(shape), math.prod(shape)))


def _parts(node: Node) -> range:
    """Which inputs a concatenation joins: QLinearConcat has a scale and a zero of its own, and two after each part."""
    return range(2, len(node.inputs), 3) if node.op_type == "QLinearConcat" else range(len(node.inputs))


def _concat(node: Node, graph: Graph) -> Dimensions:
    axis = node.attributes.get("axis", 1)
    first = list(_main_input(node, graph))
    if isinstance(axis, int):
        first[axis] = sum(_input(node, graph, index)[axis] for index in _parts(node))
    return tuple(first)


def _global_pool(node: Node, graph: Graph) -> Dimensions:
    x = _channels_first(node, _input(node, graph))
    return _as_stored(node, (*x[:2], 1, 1))


def _flatten(node: Node, graph: Graph) -> Dimensions:
    x = _input(node, graph)
    return x[0], math.prod(x[1:])


def _linear(node: Node, graph: Graph) -> Dimensions:
    weights = _input(node, graph, 3 if node.op_type in ("QGemm", "QLinearMatMul") else 1)
    return (*_input(node, graph)[:-1], weights[0] if node.attributes.get("transB") else weights[-1])


def _reshape(node: Node, graph: Graph) -> Dimensions:
    x = _input(node, graph)
    wanted = graph.integers.get(node.inputs[1])
    if wanted is None:
        raise UnknownOperator(f"{_operator(node)} to a shape that is computed at run time")
    sides = [x[index] if side == 0 else side for index, side in enumerate(wanted)]
    if -1 in sides:
        sides[sides.index(-1)] = -math.prod(x) // math.prod(sides)
    return tuple(sides)


def _transpose(node: Node, graph: Graph) -> Dimensions:
    x = _input(node, graph)
    order = node.attributes.get("perm")
    return tuple(x[axis] for axis in order) if isinstance(order, list) else x[::-1]


def _slice(node: Node, graph: Graph) -> Dimensions:
    sides = list(_input(node, graph))
    starts, ends = (graph.integers.get(node.inputs[index]) for index in (1, 2))
    axes = graph.integers.get(node.inputs[3]) if len(node.inputs) > 3 else None
    if starts is None or ends is None:
        raise UnknownOperator(f"{_operator(node)} with bounds that are computed at run time")
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[position] if axes else position
        side = sides[axis]
        begin, stop = (min(max(bound + side if bound < 0 else bound, 0), side) for bound in (start, end))
        sides[axis] = max(stop - begin, 1)
    return tuple(sides)


def _reduce_mean(node: Node, graph: Graph) -> Dimensions:
    x = _input(node, graph)
    axes = _axes(node, graph)
    chosen = {axis % len(x) for axis in axes} if axes else set(range(len(x)))
    if node.attributes.get("keepdims", 1):
        return tuple(1 if axis in chosen else side for axis, side in enumerate(x))
    return tuple(side for axis, side in enumerate(x) if axis not in chosen) or (1,)


def _axes(node: Node, graph: Graph) -> list[int] | None:
    """An attribute in older files, an input in newer ones."""
    axes = node.attributes.get("axes") or (graph.integers.get(node.inputs[1]) if len(node.inputs) > 1 else None)
    return axes if isinstance(axes, list) else None


def _squeeze(node: Node, graph: Graph) -> Dimensions:
    x, axes = _input(node, graph), _axes(node, graph)
    chosen = {axis % len(x) for axis in axes} if axes else {axis for axis, side in enumerate(x) if side == 1}
    return tuple(side for axis, side in enumerate(x) if axis not in chosen) or (1,)


def _unsqueeze(node: Node, graph: Graph) -> Dimensions:
    x, axes = list(_input(node, graph)), _axes(node, graph)
    rank = len(x) + len(axes or ())
    for axis in sorted(axis % rank for axis in axes or ()):
        x.insert(axis, 1)
    return tuple(x)


def _pad(node: Node, graph: Graph) -> Dimensions:
    x = _input(node, graph)
    pads = node.attributes.get("pads") or (graph.integers.get(node.inputs[1]) if len(node.inputs) > 1 else None)
    if not isinstance(pads, list) or len(pads) != 2 * len(x):
        raise UnknownOperator(f"{_operator(node)} by widths that are computed at run time")
    return tuple(side + pads[axis] + pads[axis + len(x)] for axis, side in enumerate(x))


_SHAPE_RULES: dict[str, Callable[[Node, Graph], Dimensions]] = {
    **dict.fromkeys(("Conv", "FusedConv", "QLinearConv"), _convolution),
    **dict.fromkeys(("AveragePool", "MaxPool", "NhwcMaxPool", "QLinearAveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "QLinearGlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("Add", "Mul", "Sub", "Div", "Sum", "Max", "Min", "Pow", "QLinearAdd", "QLinearMul"), _broadcast),
    **dict.fromkeys(_SHAPE_KEEPERS, _same),
    **dict.fromkeys(("Concat", "QLinearConcat"), _concat),
    **dict.fromkeys(("Gemm", "MatMul", "FusedGemm", "QGemm", "QLinearMatMul"), _linear),
    "ReorderOutput": _reorder_output,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Pad": _pad,
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), _reduce_mean),
}


def _details(node: Node, graph: Graph) -> str:
    """Everything but shapes that changes a kernel's time."""
    parts: list[str] = []
    if node.op_type.endswith("Conv"):
        kernel, strides, dilations = _kernel_sides(node, graph), _pair(node, "strides"), _pair(node, "dilations")
        groups = node.attributes.get("group", 1)
        parts += [
            f"k{kernel[0]}x{kernel[1]}",
            f"s{strides[0]}x{strides[1]}",
            f"g{groups}",
            f"d{dilations[0]}x{dilations[1]}",
        ]
        if node.op_type != "QLinearConv" and len(node.inputs) > 3 and node.inputs[3]:
            parts.append("sum")
    elif node.op_type.endswith("Pool") and "kernel_shape" in node.attributes:
        kernel, strides = _pair(node, "kernel_shape"), _pair(node, "strides")
        parts += [f"k{kernel[0]}x{kernel[1]}", f"s{strides[0]}x{strides[1]}"]
    elif node.op_type in ("Concat", "QLinearConcat", "Sum"):
        parts.append(f"n{len(_parts(node))}")
        if node.op_type == "QLinearConcat":  # along the last axis numbers of all parts alternate in memory
            parts.append(f"a{node.attributes.get('axis', 1)}")
    elif node.op_type == "Transpose" and isinstance(node.attributes.get("perm"), list):
        parts.append("p" + "".join(map(str, node.attributes["perm"])))  # type: ignore[arg-type]
    activation = node.attributes.get("activation")
    if isinstance(activation, str) and activation:
        parts.append(activation)
    return ".".join(parts)
