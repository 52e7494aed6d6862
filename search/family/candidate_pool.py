"""Which networks are scored: one pool for all devices of a run, in which the budgets of each are served alike.

What a network scores does not depend on the device, so each is scored once, and every device chooses its members from
the whole pool by its own bounds. A network decoded for one device lies in some band of budgets on every other one, too:
the next network is always taken for the band, of whichever device, that the pool has fewest networks for. With one
device that is the bands in turn.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

from search.decoding.decoding import Band, Decoder, in_turn
from search.latency.latency_model import LatencyModel
from shared.spaces import Genotype


class DeviceQueues:
    """What alphas propose for one device: for each band between its budgets the networks in it, best first.

    Args:
        model: of the device.
        confidence: of the bounds.
        budgets_ms: rising, the last one that of the slowest network.
        queues: one for each budget, of networks whose bound lies between it and the budget before.
    """

    def __init__(
        self, model: LatencyModel, confidence: float, budgets_ms: Sequence[float], queues: Sequence[Sequence[Genotype]]
    ) -> None:
        self.queues = queues
        self._model = model
        self._confidence = confidence
        self._budgets_ms = budgets_ms

    def band_of(self, network: Genotype) -> int:
        """The band that any connected network of the space lies in on this device."""
        if network not in self._band_of_own:
            upper_ms = float(self._model.upper_ms([network], self._confidence)[0])
            return min(bisect_left(self._budgets_ms, upper_ms), len(self._budgets_ms) - 1)
        return self._band_of_own[network]

    @cached_property
    def _band_of_own(self) -> dict[Genotype, int]:
        return {network: band for band, queue in enumerate(self.queues) for network in queue}


def serve_alike(devices: Sequence[DeviceQueues], most: int) -> list[Genotype]:
    """Distinct networks from the queues of all devices: each band of each device gets about as many.

    Between bands that have equally many, the device goes first for which fewer were taken so far.
    """
    taken: dict[Genotype, None] = {}
    served = [[0] * len(one.queues) for one in devices]
    own = [0] * len(devices)
    waiting = {
        (device, band): deque(queue) for device, one in enumerate(devices) for band, queue in enumerate(one.queues)
    }
    while len(taken) < most:
        open_bands = [place for place, queue in waiting.items() if queue]
        if not open_bands:
            break
        device, band = min(open_bands, key=lambda place: (served[place[0]][place[1]], own[place[0]], place[1]))
        network = waiting[device, band].popleft()
        if network in taken:
            continue
        taken[network] = None
        own[device] += 1
        for counts, one in zip(served, devices, strict=True):
            counts[one.band_of(network)] += 1
    return list(taken)


def bands_between(budgets_ms: Sequence[float]) -> list[Band]:
    """A band up to each budget, from the one before or from 0."""
    return [Band(high, low) for low, high in pairwise([0.0, *budgets_ms])]


def draw_pool(decoder: Decoder, budgets_ms: Sequence[float], count: int, draws: random.Random) -> list[Genotype]:
    """Distinct random networks under the budgets in turn, uniform over those that meet the budget."""
    return in_turn([decoder.draw(budget_ms, count, draws) for budget_ms in budgets_ms], count)


def draw_pool_of_all(
    devices: Sequence[tuple[Decoder, Sequence[float]]], count: int, draws: random.Random
) -> list[Genotype]:
    """Likewise for several devices with their budgets, in turn; each begins at another one of its budgets.

    So few draws for each device cover the budgets together. Each draws twice its share: some networks come up twice.
    """
    each = min(count, 2 * -(-count // len(devices)))
    drawn = []
    for place, (decoder, budgets_ms) in enumerate(devices):
        first = place * len(budgets_ms) // len(devices)
        drawn.append(draw_pool(decoder, [*budgets_ms[first:], *budgets_ms[:first]], each, draws))
    return in_turn(drawn, count)


def led_by(first: Sequence[Genotype], pool: Sequence[Genotype]) -> list[Genotype]:
    """The pool, led by each device's fastest network: a missing cheap one costs most accuracy at the low end."""
    return list(dict.fromkeys([*first, *pool]))
