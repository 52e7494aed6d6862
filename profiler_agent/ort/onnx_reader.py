"""The few fields of an ONNX file that kernel counts need, read without onnx (which has no wheels on many devices).

Protocol buffers are a list of (field number, wire type, value); the field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.errors import CorruptFile

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INT64 = 7
_EXTERNAL = 1
_LARGEST_SHAPE_TENSOR = 4096
"""Bytes of an integer tensor that may hold a shape; larger ones are weights, whose values do not matter."""

AttributeValue = int | float | str | list[int]


@dataclass
class Node:
    """One operator of a graph."""

    op_type: str = ""
    domain: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphInput:
    """One input: number of its element type (1 is float32) and its sides; a free side is its name, "" without one."""

    name: str
    element_type: int
    sides: tuple[int | str, ...]


@dataclass
class Graph:
    """Nodes in the order of execution, dimensions of inputs and weights, and values of small integer tensors.

    Attributes:
        inputs: what has to be fed, in order.
        keeps_weights_elsewhere: in files beside the model's own.
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: list[GraphInput] = field(default_factory=list)
    keeps_weights_elsewhere: bool = False
    dimensions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    integers: dict[str, list[int]] = field(default_factory=dict)


def read_graph(model: bytes) -> Graph:
    """Read the graph of a serialised ModelProto.

    Raises:
        CorruptFile: the bytes are not an ONNX model.
    """
    graph = Graph()
    try:
        for number, value in _fields(memoryview(model)):
            if number == 7:
                _read_graph(_bytes(value), graph)
    except (IndexError, ValueError, struct.error) as error:
        raise CorruptFile(f"not an ONNX model: {error}") from error
    if not graph.nodes:
        raise CorruptFile("not an ONNX model: it has no nodes")
    return graph


def _read_graph(data: memoryview, graph: Graph) -> None:
    inputs = []
    for number, value in _fields(data):
        if number == 1:
            graph.nodes.append(_read_node(_bytes(value)))
        elif number == 5:
            _read_tensor(_bytes(value), graph)
        elif number == 11:
            inputs.append(_read_value_info(_bytes(value)))
    # Files of before 2019 list their weights among the inputs.
    graph.inputs = [tensor for tensor in inputs if tensor.name not in graph.dimensions]
    for tensor in graph.inputs:
        graph.dimensions[tensor.name] = tuple(side if isinstance(side, int) else 1 for side in tensor.sides)


def _read_node(data: memoryview) -> Node:
    node = Node()
    for number, value in _fields(data):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 3:
            node.name = _text(value)
        elif number == 4:
            node.op_type = _text(value)
        elif number == 5:
            name, attribute = _read_attribute(_bytes(value))
            if attribute is not None:
                node.attributes[name] = attribute
        elif number == 7:
            node.domain = _text(value)
    return node


def _read_attribute(data: memoryview) -> tuple[str, AttributeValue | None]:
    name, found, integers = "", None, []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2 and isinstance(value, bytes):
            found = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            found = _signed(value)
        elif number == 4:
            found = _text(value)
        elif number == 8:
            integers += _integers(value)
    return name, integers or found


def _read_tensor(data: memoryview, graph: Graph) -> None:
    name, dimensions, kind, raw, values = "", [], 0, b"", []
    for number, value in _fields(data):
        if number == 1:
            dimensions += _integers(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 7:
            values += _integers(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            view = _bytes(value)
            raw = bytes(view) if len(view) <= _LARGEST_SHAPE_TENSOR else b""
        elif number == 14:
            graph.keeps_weights_elsewhere |= value == _EXTERNAL
    graph.dimensions[name] = tuple(dimensions)
    if kind == _INT64:
        graph.integers[name] = values or [value for (value,) in struct.iter_unpack("<q", raw)]


def _read_value_info(data: memoryview) -> GraphInput:
    """ValueInfoProto: name (1), type (2) > tensor_type (1) > elem_type (1), shape (2) > dim (1) > value or name."""
    name, element_type = "", 0
    sides: list[int | str] = []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for tensor in _children(value, 1):
                for key, value in _fields(tensor):
                    if key == 1 and isinstance(value, int):
                        element_type = value
                    elif key == 2:
                        sides += [_side(dimension) for dimension in _children(value, 1)]
    return GraphInput(name, element_type, tuple(sides))


def _side(dimension: memoryview) -> int | str:
    for key, value in _fields(dimension):
        if key == 1 and isinstance(value, int):
            return value
        if key == 2:
            return _text(value)
    return ""


def _children(value: int | bytes | memoryview, wanted: int) -> list[memoryview]:
    return [_bytes(child) for number, child in _fields(_bytes(value)) if number == wanted]


def _fields(data: memoryview) -> Iterator[tuple[int, int | bytes | memoryview]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
        elif wire == _BYTES:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise ValueError("a field is longer than the file")
            yield number, data[position : position + length]
            position += length
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
            yield number, bytes(data[position : position + length])
            position += length
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("an endless number")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _integers(value: int | bytes | memoryview) -> list[int]:
    """A repeated integer field, packed or not."""
    if isinstance(value, int):
        return [_signed(value)]
    found, position, data = [], 0, _bytes(value)
    while position < len(data):
        number, position = _varint(data, position)
        found.append(_signed(number))
    return found


def _text(value: int | bytes | memoryview) -> str:
    return bytes(_bytes(value)).decode()


def _bytes(value: int | bytes | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where bytes should be")
    return memoryview(value)
