"""Which graphs the server builds and which models it takes."""

from __future__ import annotations

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from shared.errors import InvalidValue, in_one_line
from shared.measurements.graph_spec import ChainGraph, GraphSpec, NetworkGraph, ParallelGraph
from shared.spaces.primitives import parameter_count

_BYTES_PER_WEIGHT = 4


def check_size(reference: GraphSpec, limit_mb: int) -> None:
    """Raise InvalidValue above the limit: a reference of 60 letters can name terabytes."""
    size_mb = _weights(reference) * _BYTES_PER_WEIGHT / 2**20
    if size_mb > limit_mb:
        raise InvalidValue(
            "graph", f"its weights would take {size_mb:,.0f} MiB, the limit is {limit_mb} MiB (setting max_graph_mb)"
        )


def check_model(content: bytes) -> None:
    """Raise InvalidValue unless the bytes are a self-contained, valid ONNX model."""
    try:
        model = onnx.load_model_from_string(content)
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
            raise InvalidValue("model", "keeps weights in other files; upload it with its weights inside")
        onnx.checker.check_model(content)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise InvalidValue("model", f"is not a valid ONNX file: {in_one_line(error)}") from error


def _weights(reference: GraphSpec) -> int:
    if isinstance(reference, ChainGraph | ParallelGraph):
        return reference.copies * parameter_count(reference.key)
    if isinstance(reference, NetworkGraph):
        return reference.space.parameter_count(reference.genotype)
    return 0  # the canary is small, and what comes from a file is not built
