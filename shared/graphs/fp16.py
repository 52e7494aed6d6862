"""From an fp32 graph to a graph that computes in half precision. Inputs and output stay fp32.

With random weights the values of a deep network may exceed the range of half precision. A product
of infinities is as fast as that of other numbers.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shared.errors import InvalidValue


def halve(model: bytes) -> bytes:
    """Weights and operators in float16, with a Cast after each input and a Cast before the output.

    Raises:
        InvalidValue: a weight exceeds the largest number of half precision, 65,504.
    """
    parsed = onnx.load_model_from_string(model)
    del model
    graph = parsed.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(_halved(tensor))
    for value in graph.value_info:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    inside = {tensor.name: f"{tensor.name}.fp16" for tensor in (*graph.input, *graph.output)}
    for node in graph.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
    for position, tensor in enumerate(graph.input):
        graph.node.insert(position, _cast(tensor.name, inside[tensor.name], TensorProto.FLOAT16))
    for tensor in graph.output:
        graph.node.append(_cast(inside[tensor.name], tensor.name, TensorProto.FLOAT))
    content = bytes(parsed.SerializeToString())
    onnx.checker.check_model(content)
    return content


def _halved(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise InvalidValue("weights", f"'{tensor.name}' holds a value that half precision does not")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _cast(value: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [value], [result], name=f"cast.{result}", to=to)
