"""Loads graphs into ONNX Runtime, which is imported only when a session is wanted."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from profiler_agent.ort.binding import BoundRun
from profiler_agent.ort.placement import RECORD, Placement, find_recorded, read_profile
from profiler_agent.ort.providers import (
    CPU,
    describe_provider,
    find_available,
    provider_name,
    require_offered,
    require_started,
    session_options,
)
from profiler_agent.ort.runtime_import import import_onnxruntime
from shared.errors import InvalidValue, LutnasError
from shared.runtime import Runtime

INPUT_SEED = 0
_LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_ELEMENTS = {
    "float": "float32",
    "double": "float64",
    "string": "object",
    **{name: name for name in ("float16", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32")},
    **{name: name for name in ("int64", "uint64")},
}
"""What numpy calls ONNX Runtime's element types."""
_ONLY_FATAL = 4
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_APART = "session.optimized_model_external_initializers"
SHAPES_BYTES = 4096
"""Tensors up to this size stay in an optimised graph."""


class ModelRefused(LutnasError):
    """ONNX Runtime does not load or run a graph."""


class GraphHidden(LutnasError):
    """The provider compiles graphs as a whole and shows none of their kernels."""


class TimedGraph:
    """A loaded graph: calling `run` executes it once.

    Where a session's tensors come to lie in memory can make a small op a third slower for as long as the session lives.
    So a graph may be loaded several times, and the sessions take turns, round by round: what they agree on is the op.
    `elsewhere` says which of its nodes another provider runs than the one asked for; empty where none does.
    """

    def __init__(self, name: str, *runs: Callable[[], object], elsewhere: str = "") -> None:
        self.name = name
        self.elsewhere = elsewhere
        self.sessions = len(runs)
        self.run = runs[0]
        self.estimate_ns: float | None = None
        self._turns = itertools.cycle(runs)

    def turn(self) -> None:
        """Let the next session be the one that runs."""
        self.run = next(self._turns)

    def rest(self) -> None:
        """Its round is over: what it holds may be let go until its next turn."""


def find_version() -> str:
    """Version of the ONNX Runtime that would be used.

    Raises:
        LutnasError: it is not installed.
    """
    # Not from the package's metadata: onnxruntime-gpu and its like are packages of other names.
    return str(_onnxruntime().__version__)


def local_runtime(
    threads: int = 1, batch: int = 1, provider: str = CPU, optimisation: str = "all", precision: str = "fp32"
) -> Runtime:
    """The runtime of this machine with the given settings.

    Args:
        threads: of one inference.
        batch: images per inference.
        provider: short name, or ONNX Runtime's own.
        optimisation: graph optimisation level.
        precision: of weights and activations.

    Raises:
        WrongUse: this ONNX Runtime does not offer the provider, or a setting is outside its domain.
        LutnasError: ONNX Runtime is not installed.
    """
    version = find_version()
    runtime = Runtime(
        "onnxruntime",
        version,
        provider=provider_name(provider),
        threads=threads,
        precision=precision,
        optimisation=optimisation,
        batch=batch,
    )
    if runtime.provider != CPU:  # which every build has
        require_offered(runtime.provider, find_available(_onnxruntime()), version)
    return runtime


def load_graph(name: str, model: bytes | Path, runtime: Runtime, sessions: int = 1) -> TimedGraph:
    """Load a graph and run it once.

    Args:
        name: for messages.
        model: ONNX bytes, or a file of them, which takes less memory.
        runtime: of this machine.
        sessions: how often to load it; they take turns.

    Raises:
        ModelRefused: ONNX Runtime does not load or run it, or the provider runs none of it; the message names the
            graph.
        WrongUse: the runtime is not one of this machine, or its provider does not start.
    """
    ort = _onnxruntime()
    if runtime.engine != "onnxruntime":
        raise InvalidValue("runtime", f"{runtime.engine} is not here, onnxruntime is")
    require_offered(runtime.provider, find_available(ort), runtime.version)
    with saying_why(f"{name}: ONNX Runtime refuses it"):
        runs, placements = zip(*(_load(ort, model, runtime) for _ in range(sessions)), strict=True)
    placement: Placement | None = placements[0]
    if placement is not None and placement.is_elsewhere:
        raise ModelRefused(f"{name}: {runtime.provider} runs nothing of it: {placement.describe()}")
    return TimedGraph(name, *runs, elsewhere="" if placement is None else placement.describe())


@contextmanager
def saying_why(what: str) -> Iterator[None]:
    """Turn ONNX Runtime's exceptions into a `ModelRefused` with its whole reason, in one line."""
    failures: tuple[type[Exception], ...] = (*_failures(_onnxruntime()), OSError)
    try:
        yield
    except LutnasError:
        raise
    except failures as error:
        raise ModelRefused(f"{what}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _load(ort: Any, model: bytes | Path, runtime: Runtime) -> tuple[Callable[[], object], Placement | None]:
    """What runs a session of the graph, and where its nodes run; None on the CPU, where they can run nowhere else."""
    session = _open(ort, model, _options(ort, runtime), runtime)
    feeds = make_feeds(session, runtime)
    outputs = [tensor.name for tensor in session.get_outputs()]

    def run() -> object:
        return session.run(outputs, feeds)

    memory = describe_provider(runtime.provider).memory
    bound = run if memory is None else BoundRun(ort, session, feeds, memory)
    bound()
    if runtime.provider == CPU:
        return bound, None
    return bound, find_recorded(session, runtime.provider) or place_by_profile(model, runtime, feeds)


def _open(ort: Any, model: bytes | Path, options: Any, runtime: Runtime) -> Any:
    """A session on the runtime's provider, and on no other in its place.

    Raises:
        WrongUse: the provider does not start.
    """
    if runtime.provider == CPU:
        return ort.InferenceSession(_source(model), options, providers=[CPU], enable_fallback=0)
    ort.set_default_logger_severity(_ONLY_FATAL)  # or it prints lines of its own about a provider that does not start
    chosen = [(runtime.provider, session_options(runtime.provider, runtime.threads))]
    try:
        session = ort.InferenceSession(_source(model), options, providers=chosen, enable_fallback=0)
    except RuntimeError as error:
        if type(error) is RuntimeError and "Please install" in str(error):  # what TensorRT without its libraries says
            require_started(runtime.provider, (CPU,))
        raise
    require_started(runtime.provider, session.get_providers())
    return session


def place_by_profile(model: bytes | Path, runtime: Runtime, feeds: dict[str, Any]) -> Placement:
    """Where nodes run, from the profile of one run of a session made for that, as `find_recorded` tells it."""
    ort = _onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        options = _options(ort, runtime)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        session = _open(ort, model, options, runtime)
        session.run(None, feeds)
        return read_profile(Path(session.end_profiling()).read_bytes(), runtime.provider)


def optimise(name: str, model: bytes | Path, runtime: Runtime, folder: Path, weights: Path | None = None) -> Path:
    """Have ONNX Runtime write the graph that it would execute, from a session that is never run.

    A session that writes its graph keeps its weights twice; so this is not the one that is timed.

    Args:
        name: for messages.
        model: ONNX bytes, or their file.
        runtime: of this machine.
        folder: where to write the graph, with its weights in a file beside it.
        weights: folder of the files that bytes keep their weights in.

    Raises:
        ModelRefused: ONNX Runtime does not load the model, or cannot write the graph.
        GraphHidden: the provider never shows one.
    """
    ort = _onnxruntime()
    path = folder / "optimised.onnx"
    try:
        with saying_why(f"{name}: ONNX Runtime does not write its optimised graph"):
            options = _options(ort, runtime)
            options.optimized_model_filepath = str(path)
            # Beside the graph: in it they would be in memory twice more, here and in the session.
            options.add_session_config_entry(f"{_APART}_file_name", "weights")
            options.add_session_config_entry(f"{_APART}_min_size_in_bytes", str(SHAPES_BYTES + 1))
            if weights is not None:
                options.add_session_config_entry(_WEIGHTS_FOLDER, str(weights))
            _open(ort, model, options, runtime)
            return path
    except ModelRefused as error:
        if "compiled nodes" in str(error):
            raise GraphHidden(f"{runtime.provider} compiles whole graphs and does not show their kernels") from error
        raise


def open_session(model: bytes | Path, runtime: Runtime) -> Any:
    """A session on the runtime's provider, for something else than timing."""
    ort = _onnxruntime()
    return _open(ort, model, _options(ort, runtime), runtime)


def make_feeds(session: Any, runtime: Runtime) -> dict[str, Any]:
    """A value for each input of a session, the same ones every time."""
    return {value.name: _input(value.name, value.type, value.shape, runtime.batch) for value in session.get_inputs()}


def _source(model: bytes | Path) -> bytes | str:
    return model if isinstance(model, bytes) else str(model)


def _options(ort: Any, runtime: Runtime) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1 if describe_provider(runtime.provider).own_threads else runtime.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[runtime.optimisation])
    # Threads of an idle session that spin would slow down the session that is measured.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ONLY_FATAL
    if runtime.provider != CPU:
        options.add_session_config_entry(RECORD, "1")
    return options


def _input(name: str, kind: str, shape: list[int | str | None], batch: int) -> Any:
    sides = [side if isinstance(side, int) else batch if axis == 0 else None for axis, side in enumerate(shape)]
    fixed = [side for side in sides if side is not None]
    if len(fixed) < len(sides):
        raise ValueError(f"the input {name} has no fixed shape: {shape}")
    element = _ELEMENTS.get(kind.removeprefix("tensor(").removesuffix(")"))
    if element is None:
        raise ValueError(f"the input {name} is {kind}, no tensor of numbers or texts")
    random = np.random.default_rng(INPUT_SEED)
    if element == "object":
        return np.full(fixed, "a", object)
    if element == "uint8":
        return random.integers(0, 256, fixed, np.uint8)
    if not element.startswith("float"):
        return random.integers(0, 2, fixed).astype(element)  # as an index or a mask, it fits everywhere
    # Ordinary numbers: zeros or denormals would be timed, not the network.
    return random.standard_normal(fixed, np.float32).astype(element)


def _onnxruntime() -> Any:
    try:
        return import_onnxruntime()
    except ImportError as error:
        raise LutnasError(f"ONNX Runtime cannot be imported: {error}; pip install 'lutnas[agent]'") from error


def _failures(ort: Any) -> tuple[type[Exception], ...]:
    """ONNX Runtime's own exceptions share no base class."""
    state = ort.capi.onnxruntime_pybind11_state
    own = tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (*own, RuntimeError, ValueError, MemoryError)
