"""Loads graphs into ONNX Runtime, which is imported only when a session is wanted."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from profiler_agent.round_timer import TimedGraph
from shared.errors import InvalidValue, LutnasError
from shared.runtime import Runtime

INPUT_SEED = 0
_LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_ONLY_FATAL = 4


class ModelRefused(LutnasError):
    """ONNX Runtime does not load or run a graph."""


def find_version() -> str:
    """Version of the ONNX Runtime that would be used.

    Raises:
        LutnasError: it is not installed.
    """
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        raise LutnasError("ONNX Runtime is not installed: pip install 'lutnas[agent]'") from None


def local_runtime(threads: int = 1, batch: int = 1) -> Runtime:
    """The runtime of this machine with the given settings."""
    return Runtime("onnxruntime", find_version(), threads=threads, batch=batch)


def load_graph(name: str, model: bytes | Path, runtime: Runtime, sessions: int = 1) -> TimedGraph:
    """Load a graph and run it once.

    Args:
        name: for messages.
        model: ONNX bytes, or a file of them, which takes less memory.
        runtime: of this machine.
        sessions: how often to load it; they take turns.

    Raises:
        ModelRefused: ONNX Runtime does not load or run it; the message names the graph.
        InvalidValue: the runtime is not one of this machine.
    """
    ort = _onnxruntime()
    if runtime.engine != "onnxruntime" or runtime.provider not in ort.get_available_providers():
        raise InvalidValue(
            "runtime", f"{runtime.engine}/{runtime.provider} is not here ({', '.join(ort.get_available_providers())})"
        )
    try:
        runs = [_load(ort, model, runtime) for _ in range(sessions)]
    except _failures(ort) as error:
        problem = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelRefused(f"{name}: ONNX Runtime refuses it: {problem}") from error
    return TimedGraph(name, *runs)


def _load(ort: Any, model: bytes | Path, runtime: Runtime) -> Callable[[], object]:
    session = ort.InferenceSession(_source(model), _options(ort, runtime), providers=[runtime.provider])
    feeds = {one.name: _input(one.name, one.type, one.shape, runtime.batch) for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]

    def run() -> object:
        return session.run(outputs, feeds)

    run()
    return run


def optimise(
    name: str, model: bytes | Path, runtime: Runtime, free_sides: Mapping[str, int] = MappingProxyType({})
) -> bytes:
    """The graph that ONNX Runtime would execute, weights and all, from a session that is never run.

    A session that writes its graph keeps its weights twice; so this is not the one that is timed.

    Args:
        name: for messages.
        model: ONNX bytes, or the path of a file that keeps its weights in others.
        runtime: of this machine.
        free_sides: what inputs' sides that have a name instead of a number are fixed to.

    Raises:
        ModelRefused: ONNX Runtime does not load the model, or cannot write the graph.
    """
    ort = _onnxruntime()
    failures: tuple[type[Exception], ...] = (*_failures(ort), OSError)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"
            options = _options(ort, runtime)
            options.optimized_model_filepath = str(path)
            for side, length in free_sides.items():
                options.add_free_dimension_override_by_name(side, length)
            ort.InferenceSession(_source(model), options, providers=[runtime.provider])
            return path.read_bytes()
    except failures as error:
        problem = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelRefused(f"{name}: ONNX Runtime does not write its optimised graph: {problem}") from error


def _source(model: bytes | Path) -> bytes | str:
    return model if isinstance(model, bytes) else str(model)


def _options(ort: Any, runtime: Runtime) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[runtime.optimisation])
    # Threads of an idle session that spin would slow down the session that is measured.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ONLY_FATAL
    return options


def _input(name: str, kind: str, shape: list[int | str | None], batch: int) -> Any:
    if kind != "tensor(float)":
        raise ValueError(f"the input {name} is {kind}, not tensor(float)")
    sides = [side if isinstance(side, int) else batch if axis == 0 else None for axis, side in enumerate(shape)]
    if any(side is None for side in sides):
        raise ValueError(f"the input {name} has no fixed shape: {shape}")
    # Ordinary numbers: zeros or denormals would be timed, not the network.
    return np.random.default_rng(INPUT_SEED).standard_normal([side or 1 for side in sides], np.float32)


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise LutnasError(f"ONNX Runtime cannot be imported: {error}; pip install 'lutnas[agent]'") from error
    return onnxruntime


def _failures(ort: Any) -> tuple[type[Exception], ...]:
    """ONNX Runtime's own exceptions share no base class."""
    state = ort.capi.onnxruntime_pybind11_state
    own = tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (*own, RuntimeError, ValueError, MemoryError)
