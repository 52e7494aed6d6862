"""Which graphs are open: those of the round that is timed, and as many others as memory was allowed for.

A graph that was closed is loaded again at its turn. That takes 5 to 15 ms a round, and the measurement is better for
it: each loading puts the tensors somewhere else, so that the rounds together speak of the graph and not of one
loading.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections import OrderedDict
from collections.abc import Callable

from profiler_agent.ort.sessions import TimedGraph

SESSION_BYTES = 200_000
"""Measured: what a session of a network of a few dozen nodes takes, weights apart."""
WEIGHTS_TIMES = 5
"""Measured: an open session of 15 MB of weights takes 60 MB (as stored and as the kernels want them, rounded up by the
allocator), and what closed ones leave behind is not all given back."""
MOST_SESSIONS = 8
"""Of a graph that stays open: they take turns, since each has its tensors at a fixed place."""
ALL_SESSIONS_BYTES = 2_000_000

Load = Callable[[int], TimedGraph]


class Residence:
    """Graphs that are open.

    Args:
        most_bytes: by a rough count, of graphs that stay open between their rounds; 0 closes each after its round.
    """

    def __init__(self, most_bytes: int = 0) -> None:
        self.most_bytes = most_bytes
        self._open: OrderedDict[GuestGraph, int] = OrderedDict()
        self._in_use: set[GuestGraph] = set()

    @property
    def open_bytes(self) -> int:
        """What is open, by the rough count."""
        return sum(self._open.values())

    def add(self, load: Load, file_bytes: int) -> GuestGraph:
        """A graph that is loaded once now, to see whether it can be, and again whenever it was closed.

        Args:
            load: loads it so many times, as sessions that take turns.
            file_bytes: size of its file.
        """
        sessions = min(max(ALL_SESSIONS_BYTES // max(file_bytes, 1), 1), MOST_SESSIONS)
        if self.open_bytes + sessions * _session_bytes(file_bytes) > self.most_bytes:
            sessions = 1
        graph = GuestGraph(self, load, file_bytes)
        self._open_now(graph, sessions)
        self._rest(graph)
        return graph

    def _turn(self, graph: GuestGraph) -> None:
        if graph in self._open:
            self._open.move_to_end(graph)
            self._in_use.add(graph)
        else:
            self._open_now(graph, 1)

    def _open_now(self, graph: GuestGraph, sessions: int) -> None:
        cost = sessions * _session_bytes(graph.file_bytes)
        self._make_room(cost)
        graph._open(sessions)
        self._open[graph] = cost
        self._in_use.add(graph)

    def _rest(self, graph: GuestGraph) -> None:
        self._in_use.discard(graph)
        self._make_room(0)

    def _make_room(self, cost: int) -> None:
        """Close those used longest ago, but not what the round needs."""
        for graph in [resting for resting in self._open if resting not in self._in_use]:
            if self.open_bytes + cost <= self.most_bytes:
                return
            del self._open[graph]
            graph._close()


class GuestGraph(TimedGraph):
    """A graph that a residence closes between rounds."""

    def __init__(self, residence: Residence, load: Load, file_bytes: int) -> None:
        super().__init__("", _closed)
        self.file_bytes = file_bytes
        self._residence = residence
        self._load = load
        self._loaded: TimedGraph | None = None

    def turn(self) -> None:
        """Let the next session be the one that runs; load the graph again where it was closed."""
        self._residence._turn(self)
        if self._loaded is not None:
            self._loaded.turn()
            self.run = self._loaded.run

    def rest(self) -> None:
        """Its round is over."""
        self._residence._rest(self)

    def _open(self, sessions: int) -> None:
        self._loaded = self._load(sessions)
        self.name, self.run, self.elsewhere = self._loaded.name, self._loaded.run, self._loaded.elsewhere

    def _close(self) -> None:
        self._loaded, self.run = None, _closed


def give_back_memory() -> None:
    """Let the system have what was freed: glibc keeps it, and many graphs loaded one after another leave holes.

    Android's C library has no such call; it is "linux" to Python up to 3.12, and "android" from 3.13 on.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _session_bytes(file_bytes: int) -> int:
    return SESSION_BYTES + WEIGHTS_TIMES * file_bytes


def _closed() -> object:
    raise AssertionError("a closed graph was run before its turn")
