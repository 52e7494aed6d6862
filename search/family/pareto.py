"""The Pareto front of predicted latency and rank: who stands on it, and which of too many to keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from search.family.candidates import Member

WIDEST_GAP = 1 / 6
"""Of the family's range of latencies: wider gaps between neighbours get a member, if any candidate lies there."""
FEWEST_TO_SPREAD = 12
"""So many members can stand so close."""


def select_members(candidates: Sequence[Member], most: int) -> list[Member]:
    """At most `most` of the candidates, latency rising: their front, and as far as there is room what only it beats.

    A front that is too long is thinned (`search.family.pareto`). One that is too short leaves
    places, which go to the front of the other candidates, and so on: ranks are proxies and
    latencies predictions, so the best network of a budget is often one that seems to be beaten by a
    hair. The network with the smallest bound is always among them. Wide gaps in latency are closed
    (`close_gaps`).
    """
    if not candidates:
        return []
    surest = min(candidates, key=lambda member: (member.upper_ms, member.rank))
    chosen = [] if surest in find_front(candidates) else [surest]
    left = [one for one in candidates if one not in chosen]
    while left and len(chosen) < most:
        front = find_front(left)
        kept = thin([one.predicted_ms for one in front], [one.rank for one in front], most - len(chosen))
        chosen += [front[index] for index in kept]
        of_front = {one.genotype for one in front}
        left = [one for one in left if one.genotype not in of_front]
    chosen = close_gaps(chosen, candidates, most, surest) if most >= FEWEST_TO_SPREAD else chosen
    return sorted(chosen, key=_by_latency)


def close_gaps(chosen: Sequence[Member], candidates: Sequence[Member], most: int, surest: Member) -> list[Member]:
    """Members between which no gap in latency is wider than `WIDEST_GAP` of their range, if there are candidates in it.

    Somebody's budget lies in such a gap, and would go to the member before it. The best-ranked candidate of the gap's
    middle half joins; where that makes too many, one leaves that others beat: the one whose neighbours are closest to
    each other. Where nobody beats any, the one leaves that dominates the smallest area of its own. Nobody leaves whose
    place would be the next gap.

    Args:
        chosen: the family as its front gave it.
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
            del members[_least_missed(members, (joining, surest))]
    return members


def _least_missed(members: Sequence[Member], staying: Sequence[Member]) -> int:
    """The place of the member that the others miss least, of those between the first and the last."""
    unbeaten = find_front(members)
    inner = [place for place in range(1, len(members) - 1) if members[place] not in staying]
    widest_ms = _widest_ms(members)
    inner = [place for place in inner if _gap_without_ms(members, place) <= widest_ms] or inner
    beaten = [place for place in inner if members[place] not in unbeaten]
    if beaten:
        return min(beaten, key=lambda place: _gap_without_ms(members, place))
    before = {after: one for one, after in pairwise(unbeaten)}
    after = dict(pairwise(unbeaten))

    def own_area(place: int) -> float:
        one = members[place]
        if one not in before or one not in after:
            return math.inf
        return (after[one].predicted_ms - one.predicted_ms) * (before[one].rank - one.rank)

    return min(inner, key=own_area)


def _widest_ms(members: Sequence[Member]) -> float:
    return WIDEST_GAP * (members[-1].predicted_ms - members[0].predicted_ms)


def _gap_without_ms(members: Sequence[Member], place: int) -> float:
    return members[place + 1].predicted_ms - members[place - 1].predicted_ms


def _for_widest_gap(members: Sequence[Member], candidates: Sequence[Member]) -> Member | None:
    """Who should stand in the widest gap that is too wide and has a candidate in its middle half."""
    widest_ms = _widest_ms(members)
    gaps = ((after.predicted_ms - before.predicted_ms, before) for before, after in pairwise(members))
    for gap_ms, before in sorted(gaps, key=lambda gap: -gap[0]):
        if gap_ms <= widest_ms:
            return None
        inside = [one for one in candidates if 0.25 <= (one.predicted_ms - before.predicted_ms) / gap_ms <= 0.75]
        if inside:
            return min(inside, key=lambda member: member.rank)
    return None


def _by_latency(member: Member) -> tuple[float, float]:
    return member.predicted_ms, member.rank


def find_front(candidates: Sequence[Member]) -> list[Member]:
    """Those that no other candidate beats in both predicted latency and rank, latency rising.

    The prediction is what a network will most likely take; its bound is for who promises a budget
    (`search.family.picking`).
    """
    front: list[Member] = []
    for candidate in sorted(candidates, key=lambda member: (member.predicted_ms, member.rank)):
        if not front or (candidate.rank < front[-1].rank and candidate.predicted_ms > front[-1].predicted_ms):
            front.append(candidate)
    return front


def thin(latencies_ms: Sequence[float], ranks: Sequence[float], most: int) -> list[int]:
    """Indices of at most `most` points of a front: greedily without those that alone dominate least area.

    The first and the last stay; of these the first where there is one place only.

    Args:
        latencies_ms: rising.
        ranks: falling, 1 is best.
        most: points to keep, at least 1.
    """
    if most == 1:
        return [0]
    kept = list(range(len(latencies_ms)))
    while len(kept) > most:
        areas = [
            (latencies_ms[after] - latencies_ms[here]) * (ranks[before] - ranks[here])
            for before, here, after in zip(kept, kept[1:], kept[2:], strict=False)
        ]
        del kept[1 + areas.index(min(areas))]
    return kept
