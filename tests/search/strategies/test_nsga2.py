import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.genotypes.genotype_operators import GenotypeOperators
from search.strategies.nsga2 import evolve
from shared.spaces import make_space

SPACES = (
    make_space("nas-bench-201", resolution=8, channels=4, depth=1),
    make_space("darts", resolution=8, channels=4, depth=3),
    make_space("fbnet", resolution=8, channels=8, depth=1),
    make_space("nas-bench-macro", resolution=8, channels=4, depth=2),
)
OFFSPRING = 40


@given(space=st.sampled_from(SPACES), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_offspring_are_networks_of_the_space_whatever_the_parents(space, seed):
    operators, draws = GenotypeOperators(space, np.random.default_rng(seed)), random.Random(seed)
    mother, father = (operators.columns(space.sample(draws)) for _ in range(2))
    for _ in range(OFFSPRING):
        mother, father = operators.cross(mother, father)
        mother, father = operators.mutate(mother), operators.mutate(father)
        for columns in (mother, father):
            genotype = operators.genotype(columns)
            space.check(genotype)
            assert space.is_connected(genotype)
            assert space.parse(space.format(space.canonical(genotype))) == space.canonical(genotype)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_crossover_gives_every_choice_to_one_of_the_two(space):
    operators, draws = GenotypeOperators(space, np.random.default_rng(0)), random.Random(0)
    mother, father = (operators.columns(space.sample(draws)) for _ in range(2))
    differs = False
    for _ in range(OFFSPRING):
        first, second = operators.cross(mother, father)
        assert (np.sort([first, second], axis=0) == np.sort([mother, father], axis=0)).all()
        differs |= not any((first == parent).all() for parent in (mother, father))
    assert differs


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_mutation_reaches_every_op_of_every_slot(space):
    operators = GenotypeOperators(space, np.random.default_rng(0))
    columns = operators.columns(space.fastest())
    seen = [set() for _ in space.slots]
    for _ in range(3000):
        columns = operators.mutate(columns)
        for slot, column in enumerate(columns):
            seen[slot].add(int(column))
    always_kept = {slot for group in space.groups if len(group.slots) == group.kept for slot in group.slots}
    for index, slot in enumerate(space.slots):
        assert seen[index] == {
            i for i, name in enumerate(slot.primitives) if name != "none" or index not in always_kept
        }, slot.name


def first_population(space, count):
    draws = random.Random(0)
    return list(
        {
            space.signature(genotype): space.canonical(genotype)
            for genotype in (space.sample(draws) for _ in range(count))
        }.values()
    )


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_evolution_evaluates_distinct_networks_within_its_limit(space):
    asked = []

    def objectives(genotypes):
        asked.append(list(genotypes))
        return np.array(
            [(space.multiply_adds(genotype), -space.parameter_count(genotype)) for genotype in genotypes], float
        )

    found = evolve(space, first_population(space, 8), objectives, 30, seed=0)
    assert len(found) == 30 == len({space.signature(genotype) for genotype in found})
    assert asked[-1] == found
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(asked))
    assert found == evolve(space, first_population(space, 8), objectives, 30, seed=0)
    assert found != evolve(space, first_population(space, 8), objectives, 30, seed=1)


def test_evolution_finds_more_of_the_front_than_random_draws_of_the_same_number():
    """Multiply-adds against parameters of 3x3 convolutions: known without training."""
    space = SPACES[2]

    def values(genotypes):
        wanted = [sum(name == "k5_e6" for name in genotype.choices) for genotype in genotypes]
        return np.array(
            [(space.multiply_adds(genotype), -count) for genotype, count in zip(genotypes, wanted, strict=True)], float
        )

    evolved = values(evolve(space, first_population(space, 20), values, 400, seed=0))
    drawn = values(first_population(space, 400))
    assert evolved[:, 1].min() < drawn[:, 1].min()
    assert evolved[:, 0].min() < drawn[:, 0].min()
