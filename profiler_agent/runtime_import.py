"""Imports ONNX Runtime, once it is wanted, and keeps it from reporting to its maker.

From 1.29 on ONNX Runtime's packages for Linux send what they are used for over the network, keep a database for that in
the home folder, and have a thread for it, which is not to run beside a measurement. It is switched off by a variable of
the environment, read when the library is loaded; who sets that one himself is obeyed.
"""

from __future__ import annotations

import os
from types import ModuleType

from profiler_agent.interrupts import Interrupted

VARIABLE = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> ModuleType:
    """The module.

    Raises:
        ImportError: it is not here, or does not fit this machine.
    """
    os.environ.setdefault(VARIABLE, "1")
    try:
        import onnxruntime
    except ImportError as error:
        # A signal that arrives while the library starts comes out of it as a failed import.
        if isinstance(error.__cause__, Interrupted):
            raise error.__cause__ from None
        raise
    module: ModuleType = onnxruntime
    return module
