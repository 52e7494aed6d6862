"""Which members to keep of a front that has too many: those that its dominated area would miss most."""

from __future__ import annotations

from collections.abc import Sequence


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
