"""Which kernels a runtime executes for a graph: its optimised graph, read back, with the shapes that it really has.

ONNX Runtime writes the graph that it will execute, but without the shapes between its nodes. So that graph runs once,
not optimised any further, with every intermediate result as an output. What is read and written is observed: whatever
the runtime executes has a name and a size. Subgraphs of an If or a Loop belong to their node.
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from profiler_agent.ort.onnx_reader import AttributeValue, Graph, Node, Tensor, read_graph
from profiler_agent.ort.onnx_writer import DTYPES, ELEMENTS, with_outputs
from profiler_agent.ort.sessions import ModelRefused, make_feeds, open_session, optimise, run_within_limit, saying_why
from shared.errors import LutnasError
from shared.kernels.kernel import Kernel, Value
from shared.runtime import Runtime

RESULT_BYTES = 16_000_000
"""Intermediate results to be kept at a time: of a large network not all fit into memory."""
_UNKNOWN_SHARE = 8
"""A result whose size is not known before it is there counts as this part of them."""
_DOMAINS = {"": "", "ai.onnx": "", "com.microsoft": "ms.", "com.microsoft.nchwc": "nchwc."}
_LONGEST_LIST = 16
_USUAL = re.compile(r"auto_pad=NOTSET|channels_last=0|group=1|(alpha|beta)=1|(dilations|strides)=1(x1)*|pads=0(x0)*")
"""Attributes that one exporter writes and another leaves out."""
_AS_IT_IS = re.compile(r"[\w.+-]{1,40}")


def count_kernels(name: str, model: bytes | Path, runtime: Runtime) -> Counter[str]:
    """Kernels of a model as the runtime would execute it, by string form.

    Raises:
        CorruptFile: the bytes are not an ONNX model.
        ModelRefused: ONNX Runtime does not load or run it.
        GraphHidden: the provider does not show what it executes.
    """
    with observe(name, model, runtime) as graph:
        return graph.counts()


@contextmanager
def observe(name: str, model: bytes | Path, runtime: Runtime, weights: Path | None = None) -> Iterator[ObservedGraph]:
    """A model's optimised graph, which lies on the disk meanwhile. Arguments and errors as of `optimise`."""
    with tempfile.TemporaryDirectory() as folder:
        path = optimise(name, model, runtime, Path(folder), weights)
        yield ObservedGraph(name, path, runtime)


class ObservedGraph:
    """An optimised graph that runs once more, and shows what its nodes read and write.

    Args:
        name: for messages.
        path: of the graph, with its weights beside it.

    Raises:
        CorruptFile: the file is not an ONNX model.
        ModelRefused: ONNX Runtime does not load it again.
    """

    def __init__(self, name: str, path: Path, runtime: Runtime) -> None:
        self.graph: Graph = read_graph(path.read_bytes())
        if not self.graph.nodes:
            raise ModelRefused(f"{name}: nothing is left to execute: ONNX Runtime makes a constant of all of it")
        self.folder = path.parent
        self.runtime = replace(runtime, optimisation="disabled")  # it is optimised already
        self._what = f"{name}: ONNX Runtime does not run its optimised graph"
        shown = path.with_name("observed.onnx")
        made = {name: None for node in self.graph.nodes for name in node.outputs if name}
        shown.write_bytes(with_outputs(self.graph, [name for name in made if name not in self.graph.outputs]))
        with saying_why(self._what):
            self._session = open_session(shown, self.runtime)
            self._feeds = make_feeds(self._session, runtime)
        self._shapes = {value.name: value.shape for value in self._session.get_outputs()}

    @property
    def depends_on_data(self) -> bool:
        """Whether the runtime cannot tell some of its shapes before it runs."""
        return any(
            tuple(shape) != self._values[name].sides and self._values[name].element != "seq"
            for name, shape in self._shapes.items()
        )

    def counts(self) -> Counter[str]:
        """How often each kernel is executed."""
        return Counter(str(kernel) for _, kernel in self.kernels)

    @cached_property
    def kernels(self) -> list[tuple[Node, Kernel]]:
        """Each node with what it is."""
        return [(node, _as_kernel(node, self._values)) for node in self.graph.nodes if node.op_type != "Constant"]

    @cached_property
    def _values(self) -> dict[str, Value]:
        values = {name: _as_value(value) for name, value in self._feeds.items()}
        values |= {name: self._as_stored(name, tensor) for name, tensor in self.graph.tensors.items()}
        return values | {name: _as_value(value) for name, value in self.results(self._shapes)}

    def results(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Values of inputs and intermediate results; the graph runs as often as their memory asks for."""
        group: list[str] = []
        room = RESULT_BYTES
        for name in names:
            if name in self._feeds:
                yield name, self._feeds[name]
                continue
            size = self._size(name)
            if group and size > room:
                yield from self._run(group)
                group, room = [], RESULT_BYTES
            group.append(name)
            room -= size
        yield from self._run(group)

    def _run(self, names: list[str]) -> Iterator[tuple[str, Any]]:
        with saying_why(self._what):
            found = run_within_limit(self._session, names, self._feeds) if names else []
        return zip(names, found, strict=True)

    def _size(self, name: str) -> int:
        sides = self._shapes[name]
        known = all(isinstance(side, int) for side in sides)
        return 8 * math.prod(sides) if known else RESULT_BYTES // _UNKNOWN_SHARE

    def _as_stored(self, name: str, tensor: Tensor) -> Value:
        element = ELEMENTS.get(tensor.element_type, f"t{tensor.element_type}")
        return Value(tensor.sides, element, name not in self.graph.defaults)


def _as_value(value: Any) -> Value:
    """Anything but a tensor (a sequence, a map, nothing) is told by its length."""
    if not hasattr(value, "dtype"):
        return Value((len(value) if hasattr(value, "__len__") else 0,), "seq")
    return Value(tuple(value.shape), ELEMENTS[DTYPES.get(value.dtype.name, 1)])


def _as_kernel(node: Node, values: dict[str, Value]) -> Kernel:
    try:
        inputs = [values[name] if name else None for name in (*node.inputs, *node.outer)]
        outputs = [values[name] if name else None for name in node.outputs]
    except KeyError as error:
        raise LutnasError(f"the optimised graph does not say where {error} before {node.op_type} is from") from error
    domain = _DOMAINS.get(node.domain, node.domain + ".")
    said = {name: _as_text(value) for name, value in node.attributes.items()}
    details = ";".join(
        f"{name}={text}" for name, text in sorted(said.items()) if not _USUAL.fullmatch(f"{name}={text}")
    )
    return Kernel(domain + node.op_type, _without_end(inputs), _without_end(outputs), details)


def _without_end(values: list[Value | None]) -> tuple[Value | None, ...]:
    """Values up to the last that is there."""
    while values and values[-1] is None:
        values.pop()
    return tuple(values)


def _as_text(value: AttributeValue) -> str:
    if isinstance(value, list) and 0 < len(value) <= _LONGEST_LIST:
        return "x".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    text = f"{value:g}" if isinstance(value, float) else str(value).removeprefix("#")
    return text if _AS_IT_IS.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:8]
