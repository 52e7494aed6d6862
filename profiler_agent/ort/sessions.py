"""Loads graphs into ONNX Runtime, which is imported only for the first session."""

from __future__ import annotations

import itertools
import math
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from profiler_agent.ort.placement import Placement, read_profile
from profiler_agent.ort.providers import (
    CPU,
    import_onnxruntime,
    provider_name,
    require_offered,
    require_started,
    session_options,
)
from shared.errors import InvalidValue, LutnasError, in_one_line
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
LONGEST_RUN_S = 100.0
"""Of a graph's first run."""
MOST_INPUT = 1 << 28
"""Numbers of an input: a GB."""
SHAPES_BYTES = 4096
"""Tensors up to this size stay in an optimised graph."""


class ModelRefused(LutnasError):
    """ONNX Runtime does not load or run a graph."""


class GraphHidden(LutnasError):
    """The provider compiles whole graphs and shows none of their kernels."""


class TimedGraph:
    """A loaded graph: calling `run` executes it once.

    The place of a session's tensors in memory can make a small op a third slower, as long as the
    session lives. So a graph may be loaded several times, and the sessions take turns, round by
    round.

    Attributes:
        elsewhere: which nodes another provider runs than the wanted one; empty if none.
    """

    def __init__(self, name: str, *runs: Callable[[], object], elsewhere: str = "") -> None:
        self.name = name
        self.elsewhere = elsewhere
        self.sessions = len(runs)
        self.run = runs[0]
        self.estimate_ns: float | None = None
        self._turns = itertools.cycle(runs)

    def acquire(self) -> None:
        """A round begins: take the next session."""
        self.run = next(self._turns)

    def release(self) -> None:
        """The round is over: the graph may be closed until its next round."""


class BoundRun:
    """Executes a session whose inputs lie where its provider wants them.

    Binding copies them there, once. Outputs come back to the CPU's memory, the same each time: so a call returns when
    the device is done, begins on an idle device, and takes what a caller waits. (Outputs that stay on the device are
    no sign: on WebGPU a run returns at once, and `synchronize_outputs` does not wait.)
    """

    def __init__(self, session: Any, feeds: Mapping[str, Any]) -> None:
        self._binding = session.io_binding()
        self._session = session
        self._feeds = feeds  # the binding does not keep arrays alive
        for name, value in feeds.items():
            self._binding.bind_cpu_input(name, value)
        names = [tensor.name for tensor in session.get_outputs()]
        for name in names:
            self._binding.bind_output(name)
        self()
        # The first run allocated the outputs. Later runs write to the same memory.
        for name, value in zip(names, self._binding.get_outputs(), strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def __del__(self) -> None:
        self._binding.clear_binding_inputs()  # WebGPU crashes where its buffers outlive their session


def find_version() -> str:
    """Version of the installed ONNX Runtime.

    Raises:
        LutnasError: it is not installed.
    """
    # Not from the package's metadata: onnxruntime-gpu and its like are packages of other names.
    return str(_onnxruntime().__version__)


def local_runtime(
    threads: int = 1, batch: int = 1, provider: str = CPU, optimisation: str = "all", precision: str = "fp32"
) -> Runtime:
    """The runtime of this machine with the given settings.

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
    require_offered(runtime.provider, _onnxruntime().get_available_providers(), version)
    return runtime


def load_graph(name: str, model: bytes | Path, runtime: Runtime, sessions: int = 1) -> TimedGraph:
    """Load a graph and run it once.

    Args:
        model: ONNX bytes, or their file, which takes less memory.
        sessions: how often to load it on the CPU.

    Raises:
        ModelRefused: ONNX Runtime does not load or run it, or the provider runs none of its nodes.
        WrongUse: the runtime is not of this machine, or its provider does not start.
    """
    ort = _onnxruntime()
    if runtime.engine != "onnxruntime":
        raise InvalidValue("runtime", f"{runtime.engine} is not here, onnxruntime is")
    require_offered(runtime.provider, ort.get_available_providers(), runtime.version)
    times = sessions if runtime.provider == CPU else 1  # others compile what they load
    with saying_why(f"{name}: ONNX Runtime refuses it"):
        runs, placements = zip(*(_load(ort, model, runtime) for _ in range(times)), strict=True)
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
    except ModelRefused as error:
        raise ModelRefused(f"{what}: {error}") from error
    except LutnasError:
        raise
    except failures as error:
        raise ModelRefused(f"{what}: {in_one_line(error) or type(error).__name__}") from error


def _load(ort: Any, model: bytes | Path, runtime: Runtime) -> tuple[Callable[[], object], Placement | None]:
    """(run, placement) of a new session. On the CPU, nodes run nowhere else: no placement."""
    options = _options(ort, runtime)
    if runtime.provider == CPU:
        session = _open(ort, model, options, runtime)
        feeds, outputs = make_feeds(session, runtime), [tensor.name for tensor in session.get_outputs()]
        run_within_limit(session, outputs, feeds)
        return lambda: session.run(outputs, feeds), None
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        session = _open(ort, model, options, runtime)
        run = BoundRun(session, make_feeds(session, runtime))
        # Ended before anything is timed: profiling doubles all times.
        return run, read_profile(Path(session.end_profiling()).read_bytes(), runtime.provider)


def _open(ort: Any, model: bytes | Path, options: Any, runtime: Runtime) -> Any:
    """A session on the runtime's provider, and on no other in its place.

    Raises:
        WrongUse: the provider does not start.
    """
    ort.set_default_logger_severity(_ONLY_FATAL)  # it prints lines of its own about a provider that does not start
    chosen = [(runtime.provider, session_options(runtime.provider, runtime.threads))]
    source = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(source, options, providers=chosen, enable_fallback=0)
    require_started(runtime.provider, session.get_providers())
    return session


def optimise(name: str, model: bytes | Path, runtime: Runtime, folder: Path, weights: Path | None = None) -> Path:
    """Have ONNX Runtime write the graph that it would execute, from a session that is never run.

    The timed session does not write it: a session that writes its graph keeps its weights twice.

    Args:
        name: for messages.
        model: ONNX bytes, or their file.
        folder: where to write the graph, with its weights in a file beside it.
        weights: folder of the files that bytes keep their weights in.

    Raises:
        ModelRefused: ONNX Runtime does not load the model, or cannot write the graph.
        GraphHidden: the provider never shows a graph.
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


def run_within_limit(session: Any, outputs: list[str], feeds: Mapping[str, Any]) -> list[Any]:
    """A session's results. Nothing but its end interrupts a run, no signal either.

    Raises:
        ModelRefused: it runs longer than `LONGEST_RUN_S`.
    """
    options = _onnxruntime().RunOptions()
    limit = threading.Timer(LONGEST_RUN_S, setattr, (options, "terminate", True))
    limit.daemon = True
    limit.start()
    try:
        return list(session.run(outputs, feeds, options))
    except Exception as error:
        if options.terminate:
            raise ModelRefused(f"a run takes more than {LONGEST_RUN_S:g} s: is there a loop without an end?") from error
        raise
    finally:
        limit.cancel()


def make_feeds(session: Any, runtime: Runtime) -> dict[str, Any]:
    """A value for each input of a session, the same ones every time."""
    return {value.name: _input(value.name, value.type, value.shape, runtime.batch) for value in session.get_inputs()}


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
    sides = [side if isinstance(side, int) else batch if axis == 0 else None for axis, side in enumerate(shape)]
    fixed = [side for side in sides if side is not None]
    if len(fixed) < len(sides):
        raise ValueError(f"the input {name} has no fixed shape: {shape}")
    element = _ELEMENTS.get(kind.removeprefix("tensor(").removesuffix(")"))
    if element is None:
        raise ValueError(f"the input {name} is {kind}, no tensor of numbers or texts")
    if math.prod(fixed) > MOST_INPUT:
        raise ValueError(f"the input {name} has {math.prod(fixed):,} numbers, more than {MOST_INPUT:,}")
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
