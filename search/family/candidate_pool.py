"""The pool of networks to score, shared by all devices of a run.

Scores do not depend on the device. So each network is scored once, and every device selects from
the whole pool by its own bounds. A network decoded for a device also lies in a band of budgets of
every other device. The next network is always taken for the band, of any device, with the fewest
networks. With a single device these are its bands in turn.

Alphas propose similar networks, and know no score. So most networks of chains follow from the
scores: a fit to the logarithms of places (`search.ranking.additive_fit`) is decoded in the same
bands, round after round.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from search.decoding.decoding import Band, Decoder, in_turn, representative
from search.latency.latency_model import LatencyModel
from search.ranking.additive_fit import fit_additive
from search.ranking.scoring import Scorer, rank_all
from shared.spaces import Genotype, Space

ROUNDS = 6
"""Fits to the scores so far."""


class DeviceQueues:
    """Networks decoded for a device: a queue for each band between its budgets, best first.

    Args:
        budgets_ms: rising; the last is that of the slowest network.
        queues: for each budget, networks whose bound lies between it and the budget before.
    """

    def __init__(
        self, model: LatencyModel, confidence: float, budgets_ms: Sequence[float], queues: Sequence[Sequence[Genotype]]
    ) -> None:
        self.queues = queues
        self._model = model
        self._confidence = confidence
        self._budgets_ms = budgets_ms

    @property
    def bands(self) -> list[Band]:
        return bands_between(self._budgets_ms)

    def with_queues(self, queues: Sequence[Sequence[Genotype]]) -> DeviceQueues:
        """Other networks in the same bands."""
        return DeviceQueues(self._model, self._confidence, self._budgets_ms, queues)

    def band_of(self, network: Genotype) -> int:
        """The band of any connected network of the space on this device."""
        if network not in self._band_of_own:
            upper_ms = float(self._model.upper_ms([network], self._confidence)[0])
            return min(bisect_left(self._budgets_ms, upper_ms), len(self._budgets_ms) - 1)
        return self._band_of_own[network]

    @cached_property
    def _band_of_own(self) -> dict[Genotype, int]:
        return {network: band for band, queue in enumerate(self.queues) for network in queue}


def fill_evenly(devices: Sequence[DeviceQueues], most: int, known: Sequence[Genotype] = ()) -> list[Genotype]:
    """Distinct networks from the queues of all devices, about as many for each band of each device.

    Among equally served bands, the device with fewer taken networks goes first. Known networks come
    first and serve their bands.
    """
    taken = dict.fromkeys(known)
    served = [[0] * len(device.queues) for device in devices]
    for network in known:
        _count(network, devices, served)
    own = [0] * len(devices)
    waiting = {
        (index, band): deque(queue) for index, device in enumerate(devices) for band, queue in enumerate(device.queues)
    }
    while len(taken) < most:
        open_bands = [place for place, queue in waiting.items() if queue]
        if not open_bands:
            break
        index, band = min(open_bands, key=lambda place: (served[place[0]][place[1]], own[place[0]], place[1]))
        network = waiting[index, band].popleft()
        if network in taken:
            continue
        taken[network] = None
        own[index] += 1
        _count(network, devices, served)
    return list(taken)


def _count(network: Genotype, devices: Sequence[DeviceQueues], served: Sequence[list[int]]) -> None:
    for counts, device in zip(served, devices, strict=True):
        counts[device.band_of(network)] += 1


def score_with_fitted(
    space: Space,
    pool: Sequence[Genotype],
    more: int,
    devices: Sequence[tuple[Decoder, DeviceQueues]],
    per_band: int,
    scorer: Scorer,
    advance: Callable[[int], None],
) -> list[Genotype]:
    """Score the pool and at most `more` networks that fits decode, and return both in this order.

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
        ranks = rank_all(space, networks, scorer.score(networks))
        # Few networks are nearly the worst, and they are far apart: ranks do not say so.
        worth = fit_additive(space, networks, np.log(len(ranks) + 1 - ranks)).worth
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


def bands_between(budgets_ms: Sequence[float]) -> list[Band]:
    """A band up to each budget, from the budget before or 0."""
    return [Band(high, low) for low, high in pairwise([0.0, *budgets_ms])]


def draw_pool(decoder: Decoder, budgets_ms: Sequence[float], count: int, draws: random.Random) -> list[Genotype]:
    """Distinct random networks under the budgets in turn, uniform under each budget."""
    return in_turn([decoder.draw(budget_ms, count, draws) for budget_ms in budgets_ms], count)


def draw_pool_of_all(
    devices: Sequence[tuple[Decoder, Sequence[float]]], count: int, draws: random.Random
) -> list[Genotype]:
    """Likewise for several devices with their budgets, in turn.

    Each device begins at a different budget, so that few draws for each cover the budgets together.
    Each draws twice its share, because some networks repeat.
    """
    each = min(count, 2 * -(-count // len(devices)))
    drawn = []
    for place, (decoder, budgets_ms) in enumerate(devices):
        first = place * len(budgets_ms) // len(devices)
        drawn.append(draw_pool(decoder, [*budgets_ms[first:], *budgets_ms[:first]], each, draws))
    return in_turn(drawn, count)


def merge_distinct(first: Sequence[Genotype], pool: Sequence[Genotype]) -> list[Genotype]:
    """The distinct networks of both, in order. Fastest networks first serve the lowest budgets."""
    return list(dict.fromkeys([*first, *pool]))
