"""ONNX files of a user's own: what can be predicted of them, and why not of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from profiler_agent.kernels.kernels import ObservedGraph, observe
from profiler_agent.ort.onnx_reader import GraphInput, read_graph
from profiler_agent.ort.onnx_writer import with_inputs
from shared.atomic_files import read_bytes
from shared.errors import InvalidValue, LutnasError
from shared.runtime import Runtime

QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")
Shapes = Mapping[str, tuple[int, ...]]
"""Sides by the input's name."""
MOST_BYTES = 1 << 31
"""Of a file of protocol buffers."""


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


def count_file(path: Path, runtime: Runtime, shapes: Shapes) -> CountedFile:
    """Count the kernels of a file, nothing timed; a file that cannot be counted says why."""
    try:
        with observe_file(path, runtime, shapes) as (graph, note):
            return CountedFile(path, graph.counts(), note=note)
    except LutnasError as error:
        return CountedFile(path, None, str(error))


@contextmanager
def observe_file(path: Path, runtime: Runtime, shapes: Shapes) -> Iterator[tuple[ObservedGraph, str | None]]:
    """A file's optimised graph, and what was assumed of the file.

    Raises:
        InvalidValue: the inputs' shapes are not known.
        LutnasError: it cannot be read, or the runtime does not run it.
    """
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise LutnasError("is larger than 2 GB, which no ONNX file is: large weights lie in files beside it")
    content = read_bytes(path)
    if content is None:
        raise LutnasError("is not a file")
    graph = read_graph(content)
    fixed = _fixed_sides(graph.inputs, runtime.batch, shapes)
    if fixed:
        content = with_inputs(graph, fixed)
    folder = path.absolute().parent if graph.keeps_weights_elsewhere else None
    if folder is not None and not str(folder).isprintable():
        raise InvalidValue("model", "keeps its weights in a folder whose name is no text: rename the folder")
    with observe(path.name, content, runtime, folder) as observed:
        free = sorted(name for name in fixed if name not in shapes)
        notes = [f"its free batch is taken as {runtime.batch}"] if free else []
        if runtime.precision != "int8" and any(node.op_type in QUANTISED for node in graph.nodes):
            notes.append(f"it is quantised, the table is of {runtime.precision}: --precision int8 asks that of int8")
        if observed.depends_on_data:
            notes.append("its shapes depend on its data: they are those of a random input")
        yield observed, "; ".join(notes) or None


def _fixed_sides(inputs: Sequence[GraphInput], batch: int, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Sides of the inputs that have to be fixed: as given, or those with a free batch in front.

    Raises:
        InvalidValue: another side is free, or a shape is given that is none of the model's.
    """
    for name in shapes.keys() - {tensor.name for tensor in inputs}:
        names = ", ".join(tensor.name for tensor in inputs)
        raise InvalidValue("--shape", f"'{name}' is no input of the model (has: {names or 'none'})")
    fixed = {}
    named: dict[str, int] = {}
    for tensor in inputs:
        if tensor.name in shapes:
            sides = _agreed(tensor, shapes[tensor.name])
            named |= {side: given for side, given in zip(tensor.sides, sides, strict=False) if isinstance(side, str)}
            fixed[tensor.name] = sides
    for tensor in inputs:
        if tensor.name in fixed or all(isinstance(side, int) for side in tensor.sides):
            continue
        known = [side if isinstance(side, int) else named.get(side) if side else None for side in tensor.sides]
        if known[0] is None:
            known[0] = batch
        sides = tuple(side for side in known if side is not None)
        if len(sides) < len(known):
            shown = ",".join(str(side or "?") for side in tensor.sides)
            example = ",".join("N" if side is None else str(side) for side in known)
            advice = f"say which with --shape {tensor.name}={example}"
            raise InvalidValue("model", f"its input '{tensor.name}' has free sides ({shown}): {advice}")
        if isinstance(tensor.sides[0], str) and tensor.sides[0]:
            named.setdefault(tensor.sides[0], sides[0])
        fixed[tensor.name] = sides
    return fixed


def _agreed(tensor: GraphInput, given: tuple[int, ...]) -> tuple[int, ...]:
    agree = len(tensor.sides) == len(given) and all(
        not isinstance(side, int) or side == wanted for side, wanted in zip(tensor.sides, given, strict=False)
    )
    if not agree and tensor.sides:
        shown = ",".join(str(side or "?") for side in tensor.sides)
        raise InvalidValue("--shape", f"{','.join(map(str, given))} does not fit the input '{tensor.name}' ({shown})")
    return given
