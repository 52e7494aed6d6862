"""ONNX files of a user's own: what can be predicted of them, and why not of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.onnx_reader import Graph, GraphInput, read_graph
from profiler_agent.ort.sessions import optimise
from profiler_agent.spool.atomic_files import read_bytes
from shared.errors import CorruptFile, InvalidValue, LutnasError
from shared.runtime import Runtime

FLOAT32 = 1
_ELEMENT_TYPES = {2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}


@dataclass(frozen=True)
class CountedFile:
    """A file's kernels, or the problem that it has.

    Attributes:
        counts: how often each kernel is executed, by its string form.
        note: what was assumed of the file.
    """

    path: Path
    counts: Mapping[str, int] | None
    problem: str | None = None
    note: str | None = None


def count_files(files: Sequence[Path], runtime: Runtime) -> list[CountedFile]:
    """Count the kernels of files, nothing timed; one that cannot be counted does not hold up the others."""
    return [_count(path, runtime) for path in files]


def _count(path: Path, runtime: Runtime) -> CountedFile:
    try:
        content = read_bytes(path)
        if content is None:
            raise LutnasError("is not a file")
        graph = _read(content)
        free = _free_sides(_only_input(graph), runtime.batch)
        source = path if graph.keeps_weights_elsewhere else content
        counts = count_kernels(optimise(path.name, source, runtime, dict.fromkeys(free, runtime.batch)))
    except LutnasError as error:
        return CountedFile(path, None, str(error))
    return CountedFile(path, counts, note=f"its free batch is taken as {runtime.batch}" if free else None)


def _read(content: bytes) -> Graph:
    try:
        return read_graph(content)
    except CorruptFile:
        raise
    except (ArithmeticError, LookupError, TypeError, UnicodeDecodeError, ValueError) as error:
        raise CorruptFile(f"not an ONNX model: {error}") from error


def _only_input(graph: Graph) -> GraphInput:
    """The one input, float32.

    Raises:
        InvalidValue: there are several, or it is something else.
    """
    if len(graph.inputs) != 1:
        names = ", ".join(tensor.name for tensor in graph.inputs[:4])
        raise InvalidValue("model", f"has {len(graph.inputs)} inputs ({names or 'none'}), a network with one is needed")
    image = graph.inputs[0]
    if image.element_type != FLOAT32:
        kind = _ELEMENT_TYPES.get(image.element_type, f"of element type {image.element_type}")
        raise InvalidValue("model", f"its input '{image.name}' is {kind}; prices are of float32 networks")
    return image


def _free_sides(image: GraphInput, batch: int) -> tuple[str, ...]:
    """Name of a free batch.

    Raises:
        InvalidValue: another side is free, or the batch is another one than the runtime's.
    """
    for side in image.sides[1:]:
        if not isinstance(side, int) or side < 1:
            raise InvalidValue("model", f"its input '{image.name}' has a free side '{side}': export it with a number")
    first = image.sides[0] if image.sides else 1
    if isinstance(first, int) and first > 0:
        if first != batch:
            raise InvalidValue("model", f"its batch is {first}, the table's is {batch}: export it with that batch")
        return ()
    if not isinstance(first, str) or not first:
        raise InvalidValue("model", f"its input '{image.name}' has a batch without a number or a name: fix it")
    return (first,)
