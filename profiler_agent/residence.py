"""Keeps loaded graphs within a part of the memory: of a plan that does not fit, those used longest ago are closed.

A closed graph is loaded again when its turn comes. That costs time, not precision: rounds stay interleaved, and each
loading puts the tensors somewhere else, as the several sessions of a small graph do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from profiler_agent.machine import Machine
from profiler_agent.round_timer import TimedGraph

SESSION_BYTES = 200_000
"""Measured: what a session of a network of a few dozen nodes takes, weights apart."""
WEIGHTS_TIMES = 5
"""Measured: an open session of 15 MB of weights takes 60 MB (as stored and as the kernels want them, rounded up by the
allocator), and what closed ones leave behind is not all given back."""
SHARE_OF_AVAILABLE = 0.5
FEWEST_OPEN = 2
"""A round needs a graph and the one that is subtracted."""
UNKNOWN_MEMORY_BYTES = 1_000_000_000


class Residence:
    """Graphs that are open, within so many bytes by a rough count.

    Args:
        most_bytes: None takes half of the memory that is available now.
    """

    def __init__(self, most_bytes: int | None = None, machine: Machine | None = None) -> None:
        if most_bytes is None:
            available = (machine or Machine()).available_bytes()
            most_bytes = UNKNOWN_MEMORY_BYTES if available is None else int(SHARE_OF_AVAILABLE * available)
        self.most_bytes = most_bytes
        self.reopened = 0
        self._open: OrderedDict[GuestGraph, int] = OrderedDict()

    @property
    def open_bytes(self) -> int:
        """What is open, by the rough count."""
        return sum(self._open.values())

    def add(self, load: Callable[[], tuple[TimedGraph, int]]) -> TimedGraph:
        """A graph that is open now and may be closed and loaded again later.

        Args:
            load: gives the loaded graph and the bytes of its file.
        """
        graph = GuestGraph(self, load)
        graph.open()
        return graph

    def _use(self, graph: GuestGraph, open_bytes: int) -> None:
        self._open[graph] = open_bytes
        self._open.move_to_end(graph)
        while self.open_bytes > self.most_bytes and len(self._open) > FEWEST_OPEN:
            longest_ago, _ = self._open.popitem(last=False)
            longest_ago.close()


class GuestGraph(TimedGraph):
    """A graph that a residence may close between rounds."""

    def __init__(self, residence: Residence, load: Callable[[], tuple[TimedGraph, int]]) -> None:
        super().__init__("", _closed)
        self._residence = residence
        self._load = load
        self._loaded: TimedGraph | None = None
        self._bytes = 0

    def open(self) -> None:
        """Load it."""
        self._loaded, file_bytes = self._load()
        self.name, self.run = self._loaded.name, self._loaded.run
        self.elsewhere = self._loaded.elsewhere
        self._bytes = self._loaded.sessions * (SESSION_BYTES + WEIGHTS_TIMES * file_bytes)
        self._residence._use(self, self._bytes)

    def close(self) -> None:
        """Let go of its sessions."""
        self._loaded, self.run = None, _closed

    def turn(self) -> None:
        """Let the next session be the one that runs; load the graph again where it was closed."""
        if self._loaded is None:
            self._residence.reopened += 1
            self.open()
        else:
            self._residence._use(self, self._bytes)
        if self._loaded is not None:
            self._loaded.turn()
            self.run = self._loaded.run


def _closed() -> object:
    raise AssertionError("a closed graph was run before its turn")
