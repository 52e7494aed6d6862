"""The settle check: after a campaign some of its networks once more, to see whether the state holds.

A table that was made beside other programs is right for that state of the machine alone, and its
own rounds cannot tell. So a few networks are timed again a little later. The server widens the
table's bound by what has changed. Where much has changed, there are more rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import TypeVar

from profiler_agent.timing.campaign import Subject
from profiler_agent.timing.stopping import Preset
from shared.measurements.measurement import Measurement, estimate_rounds
from shared.measurements.plan import Task

T = TypeVar("T")
NETWORKS = 8
FEWEST_NETWORKS = 4
ROUNDS = 12
TRIES = 3
PAUSE_S = 5.0
"""Between tries: a neighbour may go meanwhile."""
SETTLED = 0.02
"""Change between campaign and check, as a share, that noise explains."""


def settle_tasks(measured: Sequence[Measurement], preset: Preset) -> list[Task]:
    """Networks of a run to time again, evenly from the fastest to the slowest.

    None of a few, none after an earlier check, and none by a preset that is less precise than it.
    """
    networks = [each for each in measured if each.role in ("calibration", "held_out")]
    is_checked = any(each.role == "settle" for each in measured)
    if is_checked or preset.max_rounds < ROUNDS:
        return []
    networks.sort(key=lambda each: each.estimate().ratio)
    return [Task(each.subject, "settle", each.graph) for each in choose_evenly(networks)]


def choose_evenly(ordered: Sequence[T]) -> list[T]:
    """Up to eight, evenly from the first to the last; none of fewer than four."""
    count = min(NETWORKS, len(ordered))
    if count < FEWEST_NETWORKS:
        return []
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]


def settle(
    subjects: Sequence[Subject],
    before: Mapping[str, float],
    measure: Callable[[Sequence[Subject], int], None],
    sleep: Callable[[float], None],
) -> None:
    """Time networks again, with more rounds as long as they disagree with the campaign.

    Args:
        before: their times in canaries in the campaign, by graph.
        measure: adds that many rounds to each subject.
    """
    for attempt in range(TRIES):
        measure(subjects, ROUNDS)
        shifts = [math.log(estimate_rounds(each.rounds, 1).ratio / before[each.task.graph]) for each in subjects]
        if max(abs(fmean(shifts)), stdev(shifts)) <= SETTLED:
            return
        if attempt < TRIES - 1:
            sleep(PAUSE_S)
