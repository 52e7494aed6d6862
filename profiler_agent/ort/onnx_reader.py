"""The fields of an ONNX file that kernels are told and cut out by, read without onnx (which many devices cannot have).

Protocol buffers are a list of (field number, wire type, value); the field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.errors import CorruptFile

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1
FIRST_WITH_DEFAULTS = 4
"""IR version from which on an initialiser that is also an input is a default and no constant."""

_OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the file",
    b"<": "a page of HTML or XML; download the file itself",
    b"\x1f\x8b": "a gzip file; unpack it with gunzip",
    b"PK\x03\x04": "a zip archive, such as a checkpoint of PyTorch; export the model to ONNX",
    b"\x89HDF": "an HDF5 file, such as a model of Keras; export the model to ONNX",
    b"{": "JSON",
    b"\x80\x02": "a pickle, such as a checkpoint of PyTorch; export the model to ONNX",
    b"\x1c\0\0\0TFL3": "a model of TensorFlow Lite; export the model to ONNX",
}
"""What people take for a model, by its first bytes."""

AttributeValue = int | float | str | list[int] | list[float]


@dataclass
class Node:
    """One operator of a graph.

    Attributes:
        attributes: tensors, graphs and lists of texts by a digest ("#...").
        outer: names from outside that its subgraphs read.
        content: its fields but for inputs, outputs and name, as they stand in the file.
    """

    op_type: str = ""
    domain: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    outer: list[str] = field(default_factory=list)
    content: bytes = b""


@dataclass(frozen=True)
class GraphInput:
    """One input: number of its element type (1 is float32) and its sides; a free side is its name, "" without one."""

    name: str
    element_type: int
    sides: tuple[int | str, ...]


@dataclass(frozen=True)
class Tensor:
    """An initialiser: number of its element type, its sides, its fields as they stand, and where its values are."""

    element_type: int
    sides: tuple[int, ...]
    content: memoryview
    external: dict[str, str]


@dataclass
class Graph:
    """Nodes in the order of execution, inputs and initialisers of a model's graph.

    Attributes:
        inputs: what has to be fed, in order.
        tensors: initialisers by name.
        defaults: names of initialisers that a caller may replace, and so are no constants.
        content: the graph's fields as they stand.
        header: the model's other fields, without its IR version.
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: list[GraphInput] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    defaults: set[str] = field(default_factory=set)
    ir_version: int = 0
    content: memoryview = field(default_factory=lambda: memoryview(b""))
    header: bytes = b""

    @property
    def keeps_weights_elsewhere(self) -> bool:
        """Whether some are in files beside the model's own."""
        return any(tensor.external for tensor in self.tensors.values())


def read_graph(model: bytes) -> Graph:
    """Read the graph of a serialised ModelProto.

    Raises:
        CorruptFile: the bytes are not an ONNX model.
    """
    graph = Graph()
    data = memoryview(model)
    try:
        for number, value, raw in fields_of(data):
            if number == 7:
                graph.content = _bytes(value)
            elif number == 1 and isinstance(value, int):
                graph.ir_version = value
            else:
                graph.header += bytes(raw)
        _read_graph(graph.content, graph)
    except (IndexError, RecursionError, ValueError, struct.error) as error:
        raise CorruptFile(f"not an ONNX model{_what_else(model) or f': it is cut off or damaged ({error})'}") from error
    if not graph.content:
        reason = _what_else(model) or (": it has no graph" if model else ": it is empty")
        raise CorruptFile(f"not an ONNX model{reason}")
    return graph


def _what_else(content: bytes) -> str:
    """What a file is that is no model; "" of an unknown one."""
    return next((f" but {what}" for start, what in _OTHERS.items() if content.lstrip()[: len(start)] == start), "")


def _read_graph(data: memoryview, graph: Graph) -> None:
    inputs = []
    for number, value, _ in fields_of(data):
        if number == 1:
            graph.nodes.append(_read_node(_bytes(value)))
        elif number == 5:
            _read_tensor(_bytes(value), graph)
        elif number == 11:
            inputs.append(read_value_info(_bytes(value)))
        elif number == 12:
            graph.outputs.append(read_value_info(_bytes(value)).name)
    # Files of before 2019 list their weights among the inputs.
    graph.inputs = [value for value in inputs if value.name not in graph.tensors]
    if graph.ir_version >= FIRST_WITH_DEFAULTS:
        graph.defaults = {value.name for value in inputs if value.name in graph.tensors}


def _read_node(data: memoryview) -> Node:
    node = Node()
    for number, value, raw in fields_of(data):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 3:
            node.name = _text(value)
        else:
            node.content += bytes(raw)
        if number == 4:
            node.op_type = _text(value)
        elif number == 5:
            name, attribute, outer = _read_attribute(_bytes(value))
            node.attributes[name] = attribute
            node.outer += [name for name in outer if name not in node.outer]
        elif number == 7:
            node.domain = _text(value)
    return node


def _read_attribute(data: memoryview) -> tuple[str, AttributeValue, list[str]]:
    name, found, outer = "", None, []
    integers: list[int] = []
    floats: list[float] = []
    for number, value, _ in fields_of(data):
        if number == 1:
            name = _text(value)
        elif number == 2 and isinstance(value, bytes):
            found = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            found = _signed(value)
        elif number == 4:
            found = bytes(_bytes(value)).decode(errors="replace")
        elif number == 7:
            floats += [number for (number,) in struct.iter_unpack("<f", _bytes(value))]
        elif number == 8:
            integers += _integers(value)
        elif number in (5, 6, 9, 10, 11):
            found = f"#{hashlib.sha256(data).hexdigest()[:8]}"
            outer += _outer_names(_bytes(value)) if number in (6, 11) else []
    return name, found if found is not None else integers or floats, outer


def _outer_names(subgraph: memoryview) -> list[str]:
    """Names that a subgraph reads and does not make."""
    graph = Graph()
    _read_graph(subgraph, graph)
    made = (
        {value.name for value in graph.inputs}
        | graph.tensors.keys()
        | {y for node in graph.nodes for y in node.outputs}
    )
    read = [name for node in graph.nodes for name in (*node.inputs, *node.outer)]
    return [name for name in dict.fromkeys([*read, *graph.outputs]) if name and name not in made]


def _read_tensor(data: memoryview, graph: Graph) -> None:
    name, sides, kind, external, is_external = "", [], 0, {}, False
    for number, value, _ in fields_of(data):
        if number == 1:
            sides += _integers(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = _text(value)
        elif number == 13:
            pair = {key: _text(text) for key, text, _ in fields_of(_bytes(value))}
            external[pair.get(1, "")] = pair.get(2, "")
        elif number == 14:
            is_external = value == _EXTERNAL
    graph.tensors[name] = Tensor(kind, tuple(sides), data, external if is_external else {})


def read_value_info(data: int | bytes | memoryview) -> GraphInput:
    """ValueInfoProto: name (1), type (2) > tensor_type (1) > elem_type (1), shape (2) > dim (1) > value or name."""
    name, element_type = "", 0
    sides: list[int | str] = []
    for number, value, _ in fields_of(_bytes(data)):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for tensor in _children(value, 1):
                for key, content, _ in fields_of(tensor):
                    if key == 1 and isinstance(content, int):
                        element_type = content
                    elif key == 2:
                        sides += [_side(dimension) for dimension in _children(content, 1)]
    return GraphInput(name, element_type, tuple(sides))


def _side(dimension: memoryview) -> int | str:
    for key, value, _ in fields_of(dimension):
        if key == 1 and isinstance(value, int):
            return _signed(value) if _signed(value) >= 0 else ""
        if key == 2:
            return _text(value)
    return ""


def _children(value: int | bytes | memoryview, wanted: int) -> list[memoryview]:
    return [_bytes(child) for number, child, _ in fields_of(_bytes(value)) if number == wanted]


def fields_of(data: memoryview) -> Iterator[tuple[int, int | bytes | memoryview, memoryview]]:
    """(number, value, the whole field) of each field of a message."""
    position = 0
    while position < len(data):
        begin = position
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        value: int | bytes | memoryview
        if wire == _VARINT:
            value, position = _varint(data, position)
        elif wire == _BYTES:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise ValueError("a field is longer than the file")
            value = data[position : position + length]
            position += length
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
            value = bytes(data[position : position + length])
            position += length
        else:
            raise ValueError(f"wire type {wire}")
        yield number, value, data[begin:position]


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
