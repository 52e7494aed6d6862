"""Times one round of one task within a few ms: canary, graph, subtracted graph, canary again.

What is timed side by side meets the same machine: its clock frequency, neighbours and temperature.

A network on one thread is timed by that thread's own clock. A time slice that another program gets
meanwhile does not count: beside busy programs every run of a few ms meets one, and takes twice as
long. What neighbours take of caches and memory still counts.

A round does not count if a clock was set or the machine stood still. The timing clock stops while
a machine is suspended, the wall clock does not. So they disagree after a suspend, or when the wall
clock was set. A stopped process or a paused virtual machine shows as time that no run accounts for.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from profiler_agent.ort.providers import CPU
from profiler_agent.ort.sessions import TimedGraph
from shared.errors import InvalidValue
from shared.measurements.measurement import Round, quantile
from shared.runtime import Runtime

SHORTEST_VALUE_NS = 100_000
"""A shorter value is the mean of several runs: the clock's own cost stays below 0.5 %."""
FEWEST_REPEATS, MOST_REPEATS = 8, 20
SLOW_REPEATS, SLOW_SHARE_NS = 3, 400_000_000
"""A graph of more than 50 ms is repeated less: a slow device would spend its campaign on the canary."""
FEWEST_WARM_UPS, MOST_WARM_UPS, WARM_UP_SHARE_NS = 2, 5, 3_000_000
"""A graph's first runs after another graph's find no cache warm: up to 45 and 15 % slower."""
GRAPH_SHARE_NS = 8_000_000
CANARY_SHARE_NS = 2_000_000
"""Time for the canary on each side."""
LONGEST_GAP_NS = 1_000_000_000
"""A busy machine takes the processor away for tenths of a second at most. The canary shows that."""

COARSEST_THREAD_CLOCK_S = 1e-6

TimedValues = tuple[tuple[float, ...], int]
"""(values in ms, runs that each value is the mean of)."""


def find_thread_clock(runtime: Runtime) -> Callable[[], int] | None:
    """The clock of the calling thread in ns, where a network runs on it alone; None elsewhere."""
    if runtime.threads != 1 or runtime.provider != CPU:
        return None
    return time.thread_time_ns if time.get_clock_info("thread_time").resolution <= COARSEST_THREAD_CLOCK_S else None


@dataclass(frozen=True)
class TimedRound:
    """A round, with the canary's times before and after the graph apart."""

    round: Round
    canary_before_ms: float
    canary_after_ms: float


@dataclass(frozen=True)
class _Repeats:
    """Values in ms: those of the thread, and those of the clock, which a round is checked by."""

    ms: tuple[float, ...]
    clock_ms: tuple[float, ...]


_NONE = _Repeats((), ())


class RoundTimer:
    """Times rounds against one canary.

    Args:
        thread_ns: of `find_thread_clock`; None counts time slices of other programs too.
    """

    def __init__(
        self,
        canary: TimedGraph,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        thread_ns: Callable[[], int] | None = None,
    ) -> None:
        self._canary = canary
        self._thread_ns = thread_ns or clock_ns
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns

    def time(self, graph: TimedGraph, minus: TimedGraph | None = None) -> TimedRound | None:
        """Time one round; None if a clock was set or the machine stood still meanwhile."""
        graphs = [self._canary, graph] if minus is None else [self._canary, graph, minus]
        try:
            for timed in graphs:
                timed.acquire()
            return self._time(graph, minus)
        finally:
            for timed in graphs:
                timed.release()

    def _time(self, graph: TimedGraph, minus: TimedGraph | None) -> TimedRound | None:
        with _no_garbage_collection():
            size, canary_size = self._size(graph, GRAPH_SHARE_NS), self._size(self._canary, CANARY_SHARE_NS)
            minus_size = (0, 1) if minus is None else self._size(minus, GRAPH_SHARE_NS)
            start_ns, wall_start_ns = self._clock_ns(), self._wall_ns()
            before = self._repeat(self._canary, canary_size)
            at_s = round(max(self._wall_ns(), 0) / 1e9, 2)
            graph_ms = self._repeat(graph, size)
            minus_ms = _NONE if minus is None else self._repeat(minus, minus_size)
            after = self._repeat(self._canary, canary_size)
            elapsed_ns, wall_ns = self._clock_ns() - start_ns, self._wall_ns() - wall_start_ns
        timed = [(before.clock_ms + after.clock_ms, canary_size[1]), (graph_ms.clock_ms, size[1])]
        timed.append((minus_ms.clock_ms, minus_size[1]))
        if not _is_plausible(timed, elapsed_ns, wall_ns):
            return None
        canary_ms = before.ms + after.ms
        try:
            round_ = Round(graph_ms.ms, canary_ms, minus_ms.ms, at_s)
            return TimedRound(round_, quantile(before.ms), quantile(after.ms))
        except InvalidValue:
            return None

    def _size(self, graph: TimedGraph, share_ns: float) -> tuple[int, int]:
        """(values to take of a graph, runs that each value spans)."""
        if graph.estimate_ns is None:
            graph.run()
            graph.estimate_ns = max(median(self._elapsed_ns(graph, 1)[0] for _ in range(5)), 1.0)
        loops = max(math.ceil(SHORTEST_VALUE_NS / graph.estimate_ns), 1)
        repeats = math.ceil(share_ns / (loops * graph.estimate_ns))
        fewest = min(max(math.ceil(SLOW_SHARE_NS / graph.estimate_ns), SLOW_REPEATS), FEWEST_REPEATS)
        return min(max(repeats, fewest), MOST_REPEATS), min(loops, 1000)

    def _repeat(self, graph: TimedGraph, size: tuple[int, int]) -> _Repeats:
        repeats, loops = size
        _warm_up(graph)
        elapsed = [self._elapsed_ns(graph, loops) for _ in range(repeats)]
        own, clock = (tuple(round(ns / loops / 1e6, 6) for ns in values) for values in zip(*elapsed, strict=True))
        return _Repeats(own, clock)

    def _elapsed_ns(self, graph: TimedGraph, loops: int) -> tuple[int, int]:
        """Of some runs: (time of the thread, time)."""
        run, clock_ns, thread_ns = graph.run, self._clock_ns, self._thread_ns
        start_ns, thread_start_ns = clock_ns(), thread_ns()
        for _ in range(loops):
            run()
        thread_end_ns, end_ns = thread_ns(), clock_ns()
        return min(thread_end_ns - thread_start_ns, end_ns - start_ns), end_ns - start_ns


def _is_plausible(timed: Sequence[TimedValues], elapsed_ns: int, wall_ns: int) -> bool:
    """Whether both clocks agree, and the round took about as long as its runs."""
    timed_ns = sum(sum(values) * loops for values, loops in timed) * 1e6
    usual_ns = sum(quantile(values, 0.5) * len(values) * loops for values, loops in timed if values) * 1e6
    set_back = elapsed_ns < 0.99 * timed_ns
    # Warm-up runs are not timed: a slow graph may take twice its usual time then.
    stood_still = elapsed_ns - 3 * usual_ns > LONGEST_GAP_NS
    return not (set_back or stood_still or abs(wall_ns - elapsed_ns) > LONGEST_GAP_NS)


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
