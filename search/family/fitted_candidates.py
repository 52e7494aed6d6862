"""Candidates that an additive fit to the scored networks decodes, round after round.

Alphas propose similar networks, and know no score. So most evaluations go to the networks that the
ranks so far speak for: an additive fit to the ranks (`search.ranking.additive_fit`) is decoded
exactly in each band of each device's budgets. Bands with few scored networks go first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.decoding.decoding import Decoder, representative
from search.family.candidate_pool import DeviceQueues, fill_evenly
from search.ranking.additive_fit import fit_additive
from search.ranking.scoring import Scorer, rank_all
from shared.spaces import Genotype, Space

ROUNDS = 6


def score_with_fitted(
    space: Space,
    pool: Sequence[Genotype],
    more: int,
    devices: Sequence[tuple[Decoder, DeviceQueues]],
    per_band: int,
    scorer: Scorer,
    advance: Callable[[int], None],
) -> list[Genotype]:
    """Score the pool and at most `more` decoded networks, and return both in this order.

    Args:
        pool: the first networks, distinct.
        per_band: networks that each round decodes in each band; known networks count.
        advance: gets the number of networks scored, as they are.
    """
    scorer.score(pool, advance)
    networks, most = list(pool), len(pool) + more
    for left in range(ROUNDS, 0, -1):
        room = -(-(most - len(networks)) // left)
        if room <= 0:
            break
        worth = fit_additive(space, networks, -rank_all(space, networks, scorer.score(networks))).worth
        form = {representative(space, network): network for network in networks}  # the same for all devices
        queues = [
            device.with_queues(
                [
                    [form.setdefault(representative(space, network), network) for network in queue]
                    for queue in decoder.decode_worth(worth, device.bands, per_band)
                ]
            )
            for decoder, device in devices
        ]
        grown = fill_evenly(queues, len(networks) + room, networks)
        scorer.score(grown[len(networks) :], advance)
        networks = grown
    return networks
