"""Tells a round that was timed in one go from one during which the clock was set or the machine
stood still.

The clock that times does not run while a machine is suspended, and the clock on the wall does: what
they disagree by is a suspend, or the wall clock being set. A process that was stopped, or a virtual
machine that was paused, shows as time that no run accounts for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from shared.measurements.measurement import quantile

LONGEST_GAP_NS = 1_000_000_000
"""A busy machine takes the processor away for tenths of a second at most; the canary shows that."""


class ClockWatch:
    """Held against one round: made before it, asked after it."""

    def __init__(self, clock_ns: Callable[[], int], wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._start_ns = clock_ns()
        self._wall_start_ns = wall_ns()

    def went_wrong(self, timed: Sequence[tuple[tuple[float, ...], int]]) -> bool:
        """Whether the round is not to be kept.

        Args: timed: what was timed since this was made: values in ms, and the runs that each value
            is the mean of.
        """
        elapsed_ns = self._clock_ns() - self._start_ns
        wall_ns = self._wall_ns() - self._wall_start_ns
        timed_ns = sum(sum(values) * loops for values, loops in timed) * 1e6
        usual_ns = sum(quantile(values, 0.5) * len(values) * loops for values, loops in timed if values) * 1e6
        set_back = elapsed_ns < 0.99 * timed_ns
        # Warm-up runs are not timed: a slow graph may take twice its usual time in one.
        stood_still = elapsed_ns - 3 * usual_ns > LONGEST_GAP_NS
        return set_back or stood_still or abs(wall_ns - elapsed_ns) > LONGEST_GAP_NS
