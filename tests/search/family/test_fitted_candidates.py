"""Candidates that a fit to the ranks decodes."""

import random

import numpy as np
import pytest

from search.decoding.decoding import Band, make_decoder, representative
from search.family.build import spread
from search.family.candidate_pool import DeviceQueues, draw_pool, score_with_fitted
from search.latency.latency_model import LatencyModel, live_choices
from search.ranking.scoring import Score, Scorer
from shared.spaces import make_space
from shared.tables.table import CONFIDENCE

BUDGETS = 6


class KnownScores:
    """Scores by a sum of numbers per choice, and no other order."""

    def __init__(self, space, seed=0):
        self.space, self.scored = space, []
        self.worth = np.random.default_rng(seed).uniform(0.1, 1, (len(space.slots), len(space.slots[0].primitives)))

    def value(self, genotypes):
        return live_choices(self.space, genotypes) @ self.worth.ravel()

    def score(self, genotype):
        self.scored.append(genotype)
        return Score(nll=-float(self.value([genotype])[0]), accuracy=0.0, expressivity=1.0, parameters=1, depth=1)


@pytest.fixture(
    params=[
        make_space("nas-bench-201", resolution=16, channels=4, depth=1),
        make_space("nas-bench-macro", resolution=16, channels=4),
        make_space("fbnet", resolution=32, channels=8, depth=1),
        make_space("darts", resolution=16, channels=4, depth=3),
    ],
    ids=lambda space: space.name,
)
def space(request):
    return request.param


@pytest.fixture
def ground(space, table_of, tmp_path):
    """Known scores, their scorer, the decoder of a device, and its bands."""
    judge, model = KnownScores(space), LatencyModel(table_of(space))
    decoder = make_decoder(model)
    queues = DeviceQueues(model, CONFIDENCE, spread(decoder.smallest_ms, decoder.largest_ms, BUDGETS), [()] * BUDGETS)
    return judge, Scorer(space, tmp_path / "scores.json", "known", lambda: judge), decoder, queues


def start(decoder, queues, count):
    return draw_pool(decoder, [band.budget_ms for band in queues.bands], count, random.Random(0))


def test_the_pool_comes_first_and_grows_by_networks_that_compute_something_new(ground, space):
    judge, scorer, decoder, queues = ground
    pool, done = start(decoder, queues, 12), []
    found = score_with_fitted(space, pool, 24, [(decoder, queues)], 12, scorer, done.append)
    assert found[: len(pool)] == pool
    assert len({representative(space, network) for network in found}) == len(found) == len(pool) + 24
    assert sorted(judge.scored) == sorted({representative(space, network) for network in found})
    assert sum(done) >= len(found)


def test_decoded_networks_beat_as_many_random_networks_under_most_budgets(ground, space):
    judge, scorer, decoder, queues = ground
    found = score_with_fitted(space, start(decoder, queues, 15), 45, [(decoder, queues)], 20, scorer, lambda n: None)
    drawn = start(decoder, queues, 60)

    def best(networks):
        bounds_ms, values = queues._model.upper_ms(networks, CONFIDENCE), judge.value(networks)
        return np.array([values[bounds_ms <= band.budget_ms * (1 + 1e-9)].max() for band in queues.bands])

    ahead = best(found) - best(drawn)
    assert (ahead[1:] >= -1e-9).mean() >= 0.8, ahead
    assert ahead.mean() > 0


def test_without_room_nothing_is_decoded(ground, space):
    _, scorer, decoder, queues = ground
    pool = start(decoder, queues, 5)
    assert score_with_fitted(space, pool, 0, [(decoder, queues)], 5, scorer, lambda n: None) == pool


def test_the_networks_of_most_worth_in_a_band_are_decoded_and_dead_slots_have_none(table_of):
    space = make_space("nas-bench-201", resolution=16, channels=4, depth=1)
    decoder, judge = make_decoder(LatencyModel(table_of(space))), KnownScores(space)
    band = Band(0.6 * decoder.smallest_ms + 0.4 * decoder.largest_ms, 0.8 * decoder.smallest_ms)
    (found,) = decoder.decode_worth(judge.worth, [band], 7)
    everything = decoder.find_all(10_000)
    inside = band.contains(LatencyModel(table_of(space)).upper_ms(everything, CONFIDENCE))
    values = np.sort(judge.value(everything)[inside])[::-1]
    assert judge.value(found) == pytest.approx(values[:7])
