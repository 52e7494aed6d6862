"""Cuts a kernel out of an optimised graph: the node itself so many times, with all that it reads.

Its operator, attributes and constants stand as they were. What came from other nodes are values observed there, which
stand in the file as defaults of inputs, so that a runtime takes them for no constants. Copies follow one another where
the first result has the type and the sides of something that is read: so a kernel that may write over its input does.
Else they stand side by side and read the same values. Large constants are every copy's own, as in a network. A sequence
that is read is made of its tensors once, beside however many copies: their difference does not hold that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiler_agent.kernels.kernels import RESULT_BYTES, ObservedGraph
from profiler_agent.ort.onnx_reader import Node
from profiler_agent.ort.onnx_writer import (
    DTYPES,
    message,
    new_tensor,
    renamed_tensor,
    value_info,
    write_model,
    write_node,
)
from profiler_agent.ort.sessions import SHAPES_BYTES, ModelRefused, make_feeds, open_session, saying_why
from shared.kernels.kernel import Kernel
from shared.measurements.plan import count_copies

SLOW_MS = 50.0
"""From here on a kernel is timed by itself: a call costs a few microseconds."""
MOST_WEIGHTS = 500_000_000
"""Of a kernel that is cut out: a file of protocol buffers holds 2 GB."""
_FLOATS = ("", "f16", "f64")
_FED = ":fed"
"""An input that no node reads. A network is fed, and to feed it takes as long as a small kernel: 4 us on a server."""
_SEQUENCE = Node(content=message(4, b"SequenceConstruct"))


@dataclass(frozen=True)
class CutKernel:
    """A kernel by itself.

    Attributes:
        slow: it takes longer than `SLOW_MS`.
        build: the model of so many copies.
    """

    kernel: Kernel
    slow: bool
    build: Callable[[int], bytes]


def cut_kernels(graph: ObservedGraph, wanted: Collection[str]) -> Iterator[CutKernel | ModelRefused]:
    """Each wanted kernel that the graph has, once; or why the runtime refuses it when it is alone."""
    left = set(wanted)
    group: list[tuple[Node, Kernel]] = []
    room = RESULT_BYTES
    for node, kernel in graph.kernels:
        if str(kernel) not in left:
            continue
        left.remove(str(kernel))
        size = 8 * sum(value.size for value in kernel.inputs if value is not None and not value.constant)
        if group and size > room:
            yield from _cut_together(graph, group)
            group, room = [], RESULT_BYTES
        group.append((node, kernel))
        room -= size
    yield from _cut_together(graph, group)


def _cut_together(graph: ObservedGraph, kernels: Sequence[tuple[Node, Kernel]]) -> Iterator[CutKernel | ModelRefused]:
    """Kernels for which the graph runs once: what they read fits into memory."""
    observed = dict(graph.results({name for node, _ in kernels for name in _read(graph, node)}))
    for node, kernel in kernels:
        try:
            yield _cut(graph, node, kernel, observed)
        except ModelRefused as error:
            yield error


def _read(graph: ObservedGraph, node: Node) -> list[str]:
    """What a node reads from other nodes and from the inputs."""
    names = dict.fromkeys([*node.inputs, *node.outer])
    return [name for name in names if name and name not in graph.graph.tensors]


def _cut(graph: ObservedGraph, node: Node, kernel: Kernel, observed: Mapping[str, Any]) -> CutKernel:
    cutter = _Cutter(graph, node, kernel, observed)
    what = f"{kernel}: ONNX Runtime refuses it when it is alone"
    with saying_why(what):
        session = open_session(cutter.build(1, chained=False), graph.runtime)
        feeds = make_feeds(session, graph.runtime)
        times = []
        for _ in range(2):
            begin = time.perf_counter()
            session.run(None, feeds)
            times.append(time.perf_counter() - begin)
        slow = 1000 * min(times) > SLOW_MS and not cutter.reads_sequences
    chained = False
    if cutter.chained_input is not None and not slow:
        with suppress(ModelRefused), saying_why(what):  # a result may be optional, and what is read not
            results = open_session(cutter.build(count_copies(kernel)[0], chained=True), graph.runtime).run(None, feeds)
            chained = all(_is_ordinary(value) for value in results)
    return CutKernel(kernel, slow, lambda copies: cutter.build(copies, chained))


def _is_ordinary(value: Any) -> bool:
    """Whether a result has no number that is slow to compute with: one that grew or shrank out of its type's range."""
    if not hasattr(value, "dtype") or value.dtype.kind != "f":
        return True
    smallest = np.finfo(value.dtype).tiny
    return bool(np.isfinite(value).all() and not ((np.abs(value) < smallest) & (value != 0)).any())


class _Cutter:
    """Writes one kernel's models."""

    def __init__(self, graph: ObservedGraph, node: Node, kernel: Kernel, observed: Mapping[str, Any]) -> None:
        self._graph = graph.graph
        self._folder = graph.folder
        self._node = node
        self._observed = {name: observed[name] for name in _read(graph, node)}
        sequences = {name: value for name, value in self._observed.items() if not hasattr(value, "dtype")}
        unknown = [name for name, value in sequences.items() if not (value and isinstance(value, list))]
        if unknown:
            raise ModelRefused(f"{kernel}: cannot be cut out: it reads {', '.join(unknown)}, no tensors")
        self.reads_sequences = bool(sequences)
        if kernel.weights() > MOST_WEIGHTS:
            raise ModelRefused(f"{kernel}: cannot be cut out: its constants do not fit into a file of 2 GB")
        stored = self._graph.tensors
        self._stored = {name: stored[name] for name in (*node.inputs, *node.outer) if name in stored}
        self._own = [name for name in self._stored if self._is_own(name, kernel)]
        self.chained_input = self._find_chained(kernel)

    def build(self, copies: int, chained: bool) -> bytes:
        """The model of so many copies."""
        made = [message(2, b"kernel"), value_info(11, _FED, 1, (1,)), *self._shared()]
        before = ""
        for copy in range(copies):
            inputs = [self._name(name, copy) for name in self._node.inputs]
            if chained and copy and self.chained_input is not None:
                inputs[self.chained_input] = before
            outputs = [f"copy{copy}:{index}" if name else "" for index, name in enumerate(self._node.outputs)]
            made += [self._tensor(name, copy) for name in self._own if copy]
            made.append(write_node(self._node, f"kernel.{copy}", inputs, outputs))
            before = outputs[0]
        made += [message(12, message(1, name.encode())) for name in outputs if name]
        return write_model(self._graph, made)

    def _is_own(self, name: str, kernel: Kernel) -> bool:
        """Whether every copy has this constant for itself. What subgraphs read goes by its name."""
        value = kernel.inputs[self._node.inputs.index(name)] if name in self._node.inputs else None
        return value is not None and value.constant and 4 * value.size > SHAPES_BYTES and name not in self._node.outer

    def _find_chained(self, kernel: Kernel) -> int | None:
        """The last input that could be the result of the copy before."""
        result = kernel.outputs[0] if kernel.outputs else None
        if result is None or result.element not in _FLOATS or self._node.outer:
            return None
        alike = [index for index, value in enumerate(kernel.inputs[: len(self._node.inputs)]) if value == result]
        return alike[-1] if alike else None

    def _name(self, name: str, copy: int) -> str:
        return f"copy{copy}:{name}" if copy and name in self._own else name

    def _shared(self) -> Iterator[bytes]:
        for name, value in self._observed.items():
            parts = {f"{name}:{i}": part for i, part in enumerate(value)} if isinstance(value, list) else {name: value}
            for part, array in parts.items():
                yield new_tensor(part, array)
                yield value_info(11, part, DTYPES[array.dtype.name], array.shape)
            if isinstance(value, list):
                yield write_node(_SEQUENCE, f"{name}:", [*parts], [name])
        for name, tensor in self._stored.items():
            yield self._tensor(name, 0)
            if name in self._graph.defaults:
                yield value_info(11, name, tensor.element_type, tensor.sides)

    def _tensor(self, name: str, copy: int) -> bytes:
        tensor = self._stored[name]
        values = None
        if tensor.external:
            with (self._folder / tensor.external["location"]).open("rb") as file:
                file.seek(int(tensor.external.get("offset", 0)))
                values = file.read(int(tensor.external["length"]))
        return renamed_tensor(tensor, self._name(name, copy), values)
