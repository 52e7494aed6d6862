"""The Pareto front of predicted latency and rank, and the selection of a family from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from search.family.family import Member

WIDEST_GAP = 1 / 6
"""Of the family's range of latencies: a wider gap gets a member, if a candidate lies in it."""
FEWEST_TO_SPREAD = 12
"""Members that suffice to close wide gaps."""
Losses = Callable[[Sequence[Member]], list[float]]
"""How bad each network of a front is, falling."""


def select_members(candidates: Sequence[Member], most: int, losses: Losses | None = None) -> list[Member]:
    """At most `most` candidates, latency rising: their front, then the front of the rest.

    A front that is too long is thinned (`thin`) by latency and expected loss. A short front leaves
    places for the next front: ranks and latencies are estimates, so the best network of a budget is
    often narrowly beaten. The network with the smallest bound is always selected. Wide gaps in
    latency are closed (`close_gaps`).

    Args:
        losses: None takes `expected_losses`.
    """
    if not candidates:
        return []
    losses = losses or partial(expected_losses, worst_rank=max(member.rank for member in candidates))
    surest = min(candidates, key=lambda member: (member.upper_ms, member.rank))
    chosen = [] if surest in find_front(candidates) else [surest]
    left = [candidate for candidate in candidates if candidate not in chosen]
    while left and len(chosen) < most:
        front = find_front(left)
        kept = thin([member.predicted_ms for member in front], losses(front), most - len(chosen))
        chosen += [front[index] for index in kept]
        of_front = {member.genotype for member in front}
        left = [member for member in left if member.genotype not in of_front]
    chosen = close_gaps(chosen, candidates, most, surest, losses) if most >= FEWEST_TO_SPREAD else chosen
    return sorted(chosen, key=_by_latency)


def close_gaps(
    chosen: Sequence[Member], candidates: Sequence[Member], most: int, surest: Member, losses: Losses
) -> list[Member]:
    """Close gaps in latency wider than `WIDEST_GAP` of the members' range.

    A budget in such a gap would get the member before it. The best-ranked candidate of the gap's
    middle half joins. If there are then too many members, a beaten member with the closest
    neighbours leaves; if no member is beaten, the member that dominates the smallest area alone. No
    member leaves if that opens a new gap.

    Args:
        chosen: members from the fronts.
        candidates: to choose from.
        most: members.
        surest: the member with the smallest bound, which stays.
    """
    members = sorted(chosen, key=_by_latency)
    for _ in range(most):
        joining = _for_widest_gap(members, candidates)
        if joining is None:
            break
        members = sorted([*members, joining], key=_by_latency)
        if len(members) > most:
            del members[_least_missed(members, (joining, surest), losses)]
    return members


def _least_missed(members: Sequence[Member], staying: Sequence[Member], losses: Losses) -> int:
    """The place of the inner member whose removal costs least."""
    unbeaten = find_front(members)
    inner = [place for place in range(1, len(members) - 1) if members[place] not in staying]
    widest_ms = _widest_ms(members)
    inner = [place for place in inner if _gap_without_ms(members, place) <= widest_ms] or inner
    beaten = [place for place in inner if members[place] not in unbeaten]
    if beaten:
        return min(beaten, key=lambda place: _gap_without_ms(members, place))
    loss = dict(zip(unbeaten, losses(unbeaten), strict=True))
    after = dict(pairwise(unbeaten))
    before = {second: first for first, second in after.items()}

    def own_area(place: int) -> float:
        member = members[place]
        if member not in before or member not in after:
            return math.inf
        return (after[member].predicted_ms - member.predicted_ms) * (loss[before[member]] - loss[member])

    return min(inner, key=own_area)


def _widest_ms(members: Sequence[Member]) -> float:
    return WIDEST_GAP * (members[-1].predicted_ms - members[0].predicted_ms)


def _gap_without_ms(members: Sequence[Member], place: int) -> float:
    return members[place + 1].predicted_ms - members[place - 1].predicted_ms


def _for_widest_gap(members: Sequence[Member], candidates: Sequence[Member]) -> Member | None:
    """The best candidate in the middle half of the widest gap that has candidates."""
    widest_ms = _widest_ms(members)
    gaps = ((after.predicted_ms - before.predicted_ms, before) for before, after in pairwise(members))
    for gap_ms, before in sorted(gaps, key=lambda gap: -gap[0]):
        if gap_ms <= widest_ms:
            return None
        inside = [
            candidate
            for candidate in candidates
            if 0.25 <= (candidate.predicted_ms - before.predicted_ms) / gap_ms <= 0.75
        ]
        if inside:
            return min(inside, key=lambda member: member.rank)
    return None


def _by_latency(member: Member) -> tuple[float, float]:
    return member.predicted_ms, member.rank


def find_front(candidates: Sequence[Member]) -> list[Member]:
    """The candidates that no other beats in both predicted latency and rank, latency rising.

    The prediction is the likely latency; the bound guarantees a budget (`search.family.family`).
    """
    front: list[Member] = []
    for candidate in sorted(candidates, key=_by_latency):
        if not front or (candidate.rank < front[-1].rank and candidate.predicted_ms > front[-1].predicted_ms):
            front.append(candidate)
    return front


def expected_losses(front: Sequence[Member], worst_rank: float) -> list[float]:
    """How bad each network of a front is, falling: its rank and its likelihood, each from 0 to 1, added.

    Ranks say which network is better, not by how much: the fastest networks of a space are few, and
    accuracy may double within five of them. So the logarithm of the place from the worst counts, and
    the likelihood, once isotonic regression made it fall. A network that diverged counts as the
    worst that did not.

    Args:
        worst_rank: of all candidates.
    """
    nll = np.array([member.nll for member in front])
    finite = np.isfinite(nll)
    nll[~finite] = nll[finite].max(initial=0.0)
    places = np.array([worst_rank + 1 - member.rank for member in front])
    losses = _to_unit(isotonic_regression(nll, increasing=False).x) + _to_unit(-np.log(places))
    return [round(loss, 9) for loss in losses.tolist()]  # so that equal areas tie on every machine


def _to_unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / max(high - low, 1e-9))


def thin(latencies_ms: Sequence[float], losses: Sequence[float], most: int) -> list[int]:
    """Indices of at most `most` points: greedily drops the point that alone dominates least area.

    The first and last points stay; the first stays if `most` is 1.

    Args:
        latencies_ms: rising.
        losses: falling.
        most: points to keep, at least 1.
    """
    if most == 1:
        return [0]
    kept = list(range(len(latencies_ms)))
    while len(kept) > most:
        areas = [
            (latencies_ms[after] - latencies_ms[here]) * (losses[before] - losses[here])
            for before, here, after in zip(kept, kept[1:], kept[2:], strict=False)
        ]
        del kept[1 + areas.index(min(areas))]
    return kept
