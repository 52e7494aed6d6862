"""Local search around the fronts."""

import random
from types import SimpleNamespace

import numpy as np
from scipy.stats import rankdata

from search.decoding.decoding import representative
from search.family.local_search import most_promising, refine
from search.latency.latency_model import LatencyModel
from search.ranking.scoring import longest_path


def in_order(networks, drawn, room):
    return drawn[:room]


def differing(genotype, other):
    return sum(a != b for a, b in zip(genotype.choices, other.choices, strict=True))


def pool_of(space, count):
    draws = random.Random(0)
    return list({representative(space, space.sample(draws)): None for _ in range(count)})


def test_pool_comes_first_and_grows_by_distinct_connected_networks(space):
    pool = pool_of(space, 12)
    refined = refine(space, pool, 60, lambda networks: [networks[:4]], in_order, seed=0)
    assert refined[: len(pool)] == pool
    assert len(refined) == len({representative(space, genotype) for genotype in refined}) == 60
    assert all(map(space.is_connected, refined))


def test_new_networks_are_neighbours_of_the_moving_front(space):
    """The front is the largest network known. From the smallest network the search reaches the largest of all."""
    asked = []

    def find_fronts(networks):
        asked.append(max(networks, key=space.parameter_count))
        return [[asked[-1]]]

    refined = refine(space, [space.fastest()], 120, find_fronts, in_order, seed=0)
    sizes = [space.parameter_count(genotype) for genotype in asked]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) >= 3
    largest = max(map(space.parameter_count, map(space.sample, [random.Random(seed) for seed in range(200)])))
    assert max(map(space.parameter_count, refined)) >= largest


def test_every_front_has_its_neighbours(space):
    first, second = (
        space.fastest(),
        space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"),
    )
    added = refine(space, [first, second], 22, lambda networks: [[first], [second]], in_order, seed=0)[2:]
    near = [
        [differing(child, parent) < differing(child, other) for child in added]
        for parent, other in ((first, second), (second, first))
    ]
    assert all(sum(row) >= 5 for row in near)


def test_without_room_no_front_is_computed(space):
    def find_fronts(networks):
        raise AssertionError("there is no room")

    pool = pool_of(space, 5)
    assert refine(space, pool, len(pool), find_fronts, in_order, seed=0) == pool


def test_the_search_ends_when_no_new_neighbours_are_left(space):
    only = [space.fastest()]
    everything = refine(space, only, 100_000, lambda networks: [only], in_order, seed=0)
    assert 1 < len(everything) < 5_415


def test_the_same_seed_finds_the_same(space):
    found = [
        refine(space, pool_of(space, 8), 40, lambda networks: [networks[:3]], in_order, seed) for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]


class MadeUpRanker:
    """Ranks by parameters and convolutions in a row; no supernet is asked."""

    def __init__(self, table):
        self.model = LatencyModel(table)

    def bounds_ms(self, genotypes):
        return self.model.upper_ms(genotypes, 0.95)

    def value(self, genotype):
        space = self.model.space
        return longest_path(space, genotype) + space.parameter_count(genotype) / 4_000

    def rank(self, genotypes):
        ranks = rankdata([-self.value(genotype) for genotype in genotypes])
        bounds_ms = self.bounds_ms(genotypes)
        return [SimpleNamespace(rank=rank, upper_ms=ms) for rank, ms in zip(ranks, bounds_ms, strict=True)]


def test_of_the_drawn_networks_those_far_above_the_front_are_scored(space, table):
    ranker, networks = MadeUpRanker(table), pool_of(space, 900)
    scored, drawn = networks[:120], networks[120:]
    chosen = most_promising(space, [ranker, ranker], scored, drawn, 40)
    assert len(set(chosen)) == 40
    assert set(chosen) <= set(drawn)
    values, bounds_ms = np.array(list(map(ranker.value, scored))), ranker.bounds_ms(scored)
    gains = {
        genotype: ranker.value(genotype) - values[bounds_ms <= ms].max(initial=0.0)
        for genotype, ms in zip(drawn, ranker.bounds_ms(drawn), strict=True)
    }
    beyond = {genotype for genotype, gain in gains.items() if gain > 0}
    assert len(beyond) >= 10
    assert len(beyond & set(chosen)) >= 4 * len(beyond) * len(chosen) / len(drawn)
