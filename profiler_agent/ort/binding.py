"""Runs a session with inputs and outputs that stay in the device's memory, and ends each run when the device has ended.

A plain `run` copies the inputs to the device and the outputs back, and that is timed along. Here both are bound once,
before anything is timed. A device works on after a call has returned; so a run ends with waiting for it, and the next
one begins on an idle device: nothing of a run is left out of its time, nothing of another is in it. (By default ONNX
Runtime waits for the CUDA stream at the end of a run as well; that option is not touched, and its cost is the same for
graph and canary.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

DEVICE = 0


class BoundRun:
    """Calling it executes the session once, and returns when the device is done.

    Args:
        ort: the module onnxruntime.
        session: to run.
        feeds: inputs by name.
        memory: ONNX Runtime's name of the memory: "cuda", or "cpu", where the same calls work.
    """

    def __init__(self, ort: Any, session: Any, feeds: Mapping[str, Any], memory: str) -> None:
        self._session = session
        self._binding = session.io_binding()
        # The binding does not keep the arrays alive that CPU values stand on.
        self._inputs = {
            name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), memory, DEVICE)
            for name, value in feeds.items()
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        names = [tensor.name for tensor in session.get_outputs()]
        for name in names:
            self._binding.bind_output(name, memory, DEVICE)
        self._binding.synchronize_inputs()
        self()
        # The first run allocated the outputs; from now on each run writes to the same memory.
        self._outputs = self._binding.get_outputs()
        for name, value in zip(names, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def __call__(self) -> object:
        self._session.run_with_iobinding(self._binding)
        return self._binding.synchronize_outputs()

    def outputs(self) -> list[Any]:
        """What the last run computed, as arrays."""
        return list(self._binding.copy_outputs_to_cpu())
