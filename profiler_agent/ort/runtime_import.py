"""Imports ONNX Runtime, once it is wanted, and silently."""

from __future__ import annotations

import os
from types import ModuleType

from shared.command_line import Interrupted
from shared.runtime import silence_onnxruntime


def import_onnxruntime() -> ModuleType:
    """The module.

    Raises:
        ImportError: it is not here, or does not fit this machine.
    """
    silence_onnxruntime(os.environ)
    try:
        import onnxruntime
    except ImportError as error:
        # A signal that arrives while the library starts comes out of it as a failed import.
        if isinstance(error.__cause__, Interrupted):
            raise error.__cause__ from None
        raise
    module: ModuleType = onnxruntime
    return module
