"""A torch module as ONNX bytes, by the exporter of torch.onnx that needs no package beside onnx."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import torch
from torch import Tensor, nn

from shared.errors import InvalidValue, in_one_line

OPSET = 17
_EXPORTING = threading.Lock()
"""torch.onnx keeps what it does in globals, and members are tuned and exported in several threads."""


def to_onnx(model: nn.Module, example: Tensor | tuple[Tensor, ...]) -> bytes:
    """ONNX bytes of a module as it infers. The sides of its inputs are those of the example.

    Raises:
        InvalidValue: torch.onnx does not export it; the message has torch's reason.
    """
    file, inputs = BytesIO(), example if isinstance(example, tuple) else (example,)
    try:
        with _EXPORTING, inferring(model), warnings.catch_warnings(), model.register_forward_pre_hook(_hush):
            warnings.simplefilter("ignore")  # torch's own, about its exporters
            torch.onnx.export(model, inputs, file, opset_version=OPSET, dynamo=False)  # type: ignore[arg-type]
    except Exception as error:  # the module is a user's code, and torch.onnx raises errors of any kind
        raise InvalidValue("model", f"torch.onnx does not export it: {in_one_line(error)}") from error
    return file.getvalue()


def _hush(*_: object) -> None:
    """Keep torch.onnx from printing a graph that fails. It turns its log on just before it traces."""
    torch._C._jit_set_onnx_log_enabled(False)


@contextmanager
def inferring(model: nn.Module) -> Iterator[None]:
    """Inside, the module is in inference mode and keeps no gradients; each part then has its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
