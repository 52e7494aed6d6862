"""Keeps graphs open: those of the timed round, and as many others as memory is allowed for.

A closed graph is loaded again for its round. That takes 5 to 15 ms, and the measurement gets
better: each loading puts the tensors elsewhere. So the rounds speak of the graph, not of a single
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
"""Measured for a network of a few dozen nodes, without its weights."""
WEIGHTS_TIMES = 5
"""Measured: 15 MB of weights take 60 MB in an open session (as stored and as the kernels want them,
rounded up by the allocator). Closed sessions do not give back all of it."""
MOST_SESSIONS = 8
"""Sessions of a graph that stays open. They take turns, since each has fixed tensors."""
ALL_SESSIONS_BYTES = 2_000_000

Load = Callable[[int], TimedGraph]


class SessionCache:
    """Open graphs.

    Args:
        most_bytes: by a rough count, for graphs between their rounds; 0 closes each after its
            round.
    """

    def __init__(self, most_bytes: int = 0) -> None:
        self.most_bytes = most_bytes
        self._open: OrderedDict[CachedGraph, int] = OrderedDict()
        self._in_use: set[CachedGraph] = set()

    @property
    def open_bytes(self) -> int:
        """Memory of open graphs, by a rough count."""
        return sum(self._open.values())

    def add(self, load: Load, file_bytes: int) -> CachedGraph:
        """A graph that is loaded now, to see whether that works, and again whenever it was closed.

        Args:
            load: loads that many sessions, which take turns.
            file_bytes: size of its file.
        """
        sessions = min(max(ALL_SESSIONS_BYTES // max(file_bytes, 1), 1), MOST_SESSIONS)
        if self.open_bytes + sessions * _session_bytes(file_bytes) > self.most_bytes:
            sessions = 1
        graph = CachedGraph(self, load, file_bytes)
        self._open_now(graph, sessions)
        self._release(graph)
        return graph

    def _acquire(self, graph: CachedGraph) -> None:
        if graph in self._open:
            self._open.move_to_end(graph)
            self._in_use.add(graph)
        else:
            self._open_now(graph, 1)

    def _open_now(self, graph: CachedGraph, sessions: int) -> None:
        cost = sessions * _session_bytes(graph.file_bytes)
        self._make_room(cost)
        graph._open(sessions)
        self._open[graph] = cost
        self._in_use.add(graph)

    def _release(self, graph: CachedGraph) -> None:
        self._in_use.discard(graph)
        self._make_room(0)

    def _make_room(self, cost: int) -> None:
        """Close the graphs used longest ago, but none of the current round."""
        for graph in [resting for resting in self._open if resting not in self._in_use]:
            if self.open_bytes + cost <= self.most_bytes:
                return
            del self._open[graph]
            graph._close()


class CachedGraph(TimedGraph):
    """A graph that the cache closes between rounds."""

    def __init__(self, cache: SessionCache, load: Load, file_bytes: int) -> None:
        super().__init__("", _closed)
        self.file_bytes = file_bytes
        self._residence = cache
        self._load = load
        self._loaded: TimedGraph | None = None

    def acquire(self) -> None:
        """Open the graph if it was closed, and take the next session."""
        self._residence._acquire(self)
        if self._loaded is not None:
            self._loaded.acquire()
            self.run = self._loaded.run

    def release(self) -> None:
        self._residence._release(self)

    def _open(self, sessions: int) -> None:
        self._loaded = self._load(sessions)
        self.name, self.run, self.elsewhere = self._loaded.name, self._loaded.run, self._loaded.elsewhere

    def _close(self) -> None:
        self._loaded, self.run = None, _closed


def give_back_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, and many loaded graphs leave holes.

    Android's C library has no such call. Python calls it "linux" up to 3.12, and "android" from
    3.13 on.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _session_bytes(file_bytes: int) -> int:
    return SESSION_BYTES + WEIGHTS_TIMES * file_bytes


def _closed() -> object:
    raise AssertionError("a closed graph was run before its turn")
