"""Local search around the fronts."""

import random

from search.decoding.decoding import representative
from search.family.local_search import refine


def differing(genotype, other):
    return sum(a != b for a, b in zip(genotype.choices, other.choices, strict=True))


def pool_of(space, count):
    draws = random.Random(0)
    return list({representative(space, space.sample(draws)): None for _ in range(count)})


def test_pool_comes_first_and_grows_by_distinct_connected_networks(space):
    pool = pool_of(space, 12)
    refined = refine(space, pool, 60, lambda networks: [networks[:4]], seed=0)
    assert refined[: len(pool)] == pool
    assert len(refined) == len({representative(space, genotype) for genotype in refined}) == 60
    assert all(map(space.is_connected, refined))


def test_new_networks_are_neighbours_of_the_moving_front(space):
    """The front is the largest network known. From the smallest network the search reaches the largest of all."""
    asked = []

    def find_fronts(networks):
        asked.append(max(networks, key=space.parameter_count))
        return [[asked[-1]]]

    refined = refine(space, [space.fastest()], 120, find_fronts, seed=0)
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
    added = refine(space, [first, second], 22, lambda networks: [[first], [second]], seed=0)[2:]
    near = [
        [differing(child, parent) < differing(child, other) for child in added]
        for parent, other in ((first, second), (second, first))
    ]
    assert all(sum(row) >= 5 for row in near)


def test_without_room_no_front_is_computed(space):
    def find_fronts(networks):
        raise AssertionError("there is no room")

    pool = pool_of(space, 5)
    assert refine(space, pool, len(pool), find_fronts, seed=0) == pool


def test_the_search_ends_when_no_new_neighbours_are_left(space):
    only = [space.fastest()]
    everything = refine(space, only, 100_000, lambda networks: [only], seed=0)
    assert 1 < len(everything) < 5_415


def test_the_same_seed_finds_the_same(space):
    found = [refine(space, pool_of(space, 8), 40, lambda networks: [networks[:3]], seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
