"""Which models the server takes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx.external_data_helper import uses_external_data

from shared.errors import InvalidValue, in_one_line


def check_model(content: bytes) -> None:
    """Raise InvalidValue unless the bytes are a self-contained, valid ONNX model."""
    try:
        model = onnx.load_model_from_string(content)
        if b"location" in content and any(map(uses_external_data, _tensors(model))):  # the key of a file's name
            raise InvalidValue("model", "keeps weights in other files; upload it with its weights inside")
        onnx.checker.check_model(content)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise InvalidValue("model", f"is not a valid ONNX file: {in_one_line(error)}") from error


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """All tensors in a message, those of attributes, subgraphs and functions too."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in (value,) if isinstance(value, Message) else value:
                yield from (part,) if isinstance(part, onnx.TensorProto) else _tensors(part)
