"""Times one round of one task: the canary, the graph, the subtracted graph, and the canary again, in a few ms.

What stands side by side meets the same machine: its clock frequency, its neighbours, its temperature.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.timing.clock_watch import ClockWatch
from shared.errors import InvalidValue
from shared.measurements.measurement import Round, quantile

SHORTEST_VALUE_NS = 100_000
"""A value below this is the mean of several runs timed as one, so that the clock's own cost stays under 0.5 %."""
FEWEST_REPEATS, MOST_REPEATS = 8, 20
FEWEST_WARM_UPS, MOST_WARM_UPS, WARM_UP_SHARE_NS = 2, 5, 3_000_000
"""A graph's first runs after another's find its weights in no cache: the first is up to 45 % slower, the second 15."""
GRAPH_SHARE_NS = 8_000_000
CANARY_SHARE_NS = 2_000_000
"""Time to spend on the canary on each side."""


@dataclass(frozen=True)
class TimedRound:
    """A round, with the canary's times before and after the graph apart."""

    round: Round
    canary_before_ms: float
    canary_after_ms: float


class RoundTimer:
    """Times rounds against one canary."""

    def __init__(
        self,
        canary: TimedGraph,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._canary = canary
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._timed: list[tuple[tuple[float, ...], int]] = []

    def time(self, graph: TimedGraph, minus: TimedGraph | None = None) -> TimedRound | None:
        """Time one round; None where the clock jumped or the machine stood still meanwhile."""
        graphs = [self._canary, graph] if minus is None else [self._canary, graph, minus]
        try:
            for timed in graphs:
                timed.turn()
            return self._time(graph, minus)
        finally:
            for timed in graphs:
                timed.rest()

    def _time(self, graph: TimedGraph, minus: TimedGraph | None) -> TimedRound | None:
        with _no_garbage_collection():
            repeats, loops = self._sizes(graph, GRAPH_SHARE_NS)
            canary_repeats, canary_loops = self._sizes(self._canary, CANARY_SHARE_NS)
            if minus is not None:
                minus_repeats, minus_loops = self._sizes(minus, GRAPH_SHARE_NS)
            self._timed.clear()
            clocks = ClockWatch(self._clock_ns, self._wall_ns)
            _warm_up(self._canary)
            before = self._repeat(self._canary, canary_repeats, canary_loops)
            at_s = round(max(self._wall_ns(), 0) / 1e9, 2)
            _warm_up(graph)
            graph_ms = self._repeat(graph, repeats, loops)
            minus_ms: tuple[float, ...] = ()
            if minus is not None:
                _warm_up(minus)
                minus_ms = self._repeat(minus, minus_repeats, minus_loops)
            _warm_up(self._canary)
            after = self._repeat(self._canary, canary_repeats, canary_loops)
        if clocks.went_wrong(self._timed):
            return None
        try:
            return TimedRound(Round(graph_ms, before + after, minus_ms, at_s), quantile(before), quantile(after))
        except InvalidValue:
            return None

    def _sizes(self, graph: TimedGraph, share_ns: float) -> tuple[int, int]:
        """How many values to take of a graph, and how many runs each value spans."""
        if graph.estimate_ns is None:
            graph.run()
            graph.estimate_ns = max(median(self._elapsed_ns(graph, 1) for _ in range(5)), 1.0)
        loops = max(math.ceil(SHORTEST_VALUE_NS / graph.estimate_ns), 1)
        repeats = math.ceil(share_ns / (loops * graph.estimate_ns))
        return min(max(repeats, FEWEST_REPEATS), MOST_REPEATS), min(loops, 1000)

    def _repeat(self, graph: TimedGraph, repeats: int, loops: int) -> tuple[float, ...]:
        values = tuple(round(self._elapsed_ns(graph, loops) / loops / 1e6, 6) for _ in range(repeats))
        self._timed.append((values, loops))
        return values

    def _elapsed_ns(self, graph: TimedGraph, loops: int) -> int:
        run, clock_ns = graph.run, self._clock_ns
        start_ns = clock_ns()
        for _ in range(loops):
            run()
        return clock_ns() - start_ns


def _warm_up(graph: TimedGraph) -> None:
    runs = math.ceil(WARM_UP_SHARE_NS / (graph.estimate_ns or WARM_UP_SHARE_NS))
    for _ in range(min(max(runs, FEWEST_WARM_UPS), MOST_WARM_UPS)):
        graph.run()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
