"""Writes the few messages of an ONNX file that a kernel's timing graph is made of, without onnx."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from profiler_agent.ort.onnx_reader import FIRST_WITH_DEFAULTS, Graph, Node, Tensor, fields_of, read_value_info
from shared.protobuf import varint

_TYPES = (
    ("float32", ""), ("uint8", "u8"), ("int8", "i8"), ("uint16", "u16"), ("int16", "i16"), ("int32", "i32"),
    ("int64", "i64"), ("object", "str"), ("bool", "b"), ("float16", "f16"), ("float64", "f64"), ("uint32", "u32"),
    ("uint64", "u64"), ("complex64", "c64"), ("complex128", "c128"), ("bfloat16", "bf16"),
)  # fmt: skip
DTYPES = {dtype: number for number, (dtype, _) in enumerate(_TYPES, start=1)}
"""ONNX's element types by what numpy calls them; texts are objects."""
ELEMENTS = {number: short for number, (_, short) in enumerate(_TYPES, start=1)}
"""Short names of ONNX's element types, by number."""
_STRING = 8
_NAME, _RAW, _EXTERNAL_FIELDS = 8, 9, (13, 14)


def message(number: int, content: bytes | memoryview) -> bytes:
    """A field of bytes: a text, or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + bytes(content)


def integer(number: int, value: int) -> bytes:
    """A field of a whole number that is not negative."""
    return varint(number << 3) + varint(value)


def write_model(graph: Graph, fields: Sequence[bytes]) -> bytes:
    """A model with another graph's fields and the rest of the given one's; initialisers among its inputs are defaults.

    Weights may be of a GB: all is joined once.
    """
    version = integer(1, max(graph.ir_version, FIRST_WITH_DEFAULTS))
    return b"".join([version, graph.header, varint(7 << 3 | 2), varint(sum(map(len, fields))), *fields])


def with_outputs(graph: Graph, names: Iterable[str]) -> bytes:
    """The same model with more outputs, whose types the runtime knows."""
    added = b"".join(message(12, message(1, name.encode())) for name in names)
    return integer(1, graph.ir_version) + graph.header + message(7, bytes(graph.content) + added)


def with_inputs(graph: Graph, sides: Mapping[str, Sequence[int]]) -> bytes:
    """The same model with fixed sides of the inputs of these names."""
    content = bytearray()
    for number, value, raw in fields_of(graph.content):
        given = None
        if number == 11:
            info = read_value_info(value)
            given = sides.get(info.name)
        content += raw if given is None else value_info(11, info.name, info.element_type, given)
    return integer(1, graph.ir_version) + graph.header + message(7, bytes(content))


def value_info(number: int, name: str, element_type: int, sides: Sequence[int]) -> bytes:
    """An input or an output, as a field."""
    shape = b"".join(message(1, integer(1, side)) for side in sides)
    tensor = message(1, integer(1, element_type) + message(2, shape))
    return message(number, message(1, name.encode()) + message(2, tensor))


def write_node(node: Node, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """A node as a field of a graph: another one with other names."""
    named = [message(1, value.encode()) for value in inputs] + [message(2, value.encode()) for value in outputs]
    return message(1, b"".join(named) + message(3, name.encode()) + node.content)


def renamed_tensor(tensor: Tensor, name: str, values: bytes | None) -> bytes:
    """An initialiser as a field of a graph: another one under this name, with these values if its own lie elsewhere."""
    dropped = {_NAME} if values is None else {_NAME, *_EXTERNAL_FIELDS}
    kept = b"".join(bytes(raw) for number, _, raw in fields_of(tensor.content) if number not in dropped)
    return message(5, kept + message(_NAME, name.encode()) + (b"" if values is None else message(_RAW, values)))


def new_tensor(name: str, value: Any) -> bytes:
    """An initialiser of these values, an array, as a field of a graph."""
    kind = DTYPES[value.dtype.name]
    content = b"".join(integer(1, side) for side in value.shape) + integer(2, kind) + message(_NAME, name.encode())
    if kind == _STRING:
        return message(5, content + b"".join(message(6, str(text).encode()) for text in value.ravel()))
    return message(5, content + message(_RAW, np.ascontiguousarray(value).tobytes()))
