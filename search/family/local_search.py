"""Local search around the fronts of all devices (White, Nolen and Savani, 2021).

Alphas propose similar networks, and a front gains from different ones. So in spaces of cells most
of the evaluations go to neighbours of each device's front, round after round. A neighbour is a
mutation by `search.genotypes.genotype_operators`. The strategy nsga2 shares its rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from search.decoding.decoding import in_turn, representative
from search.family.family import Ranker
from search.family.pareto import find_front
from search.genotypes.genotype_operators import GenotypeOperators
from shared.spaces import Genotype, Space

ROUNDS = 6
MOST_IDLE_TRIES = 20
"""After so many mutations without a new network a parent is dropped."""

FindFronts = Callable[[Sequence[Genotype]], Sequence[Sequence[Genotype]]]
"""Finds the front of each device among scored networks."""


def score_with_neighbours(
    space: Space,
    pool: Sequence[Genotype],
    more: int,
    rankers: Sequence[Ranker],
    seed: int,
    advance: Callable[[int], None],
) -> list[Genotype]:
    """Score the pool and `more` neighbours of its moving fronts, and return both in this order.

    Args:
        pool: the first networks, distinct.
        more: neighbours to score.
        rankers: of each device; all share a scorer.
        advance: gets the number of networks scored, as they are.
    """
    scorer = rankers[0].scorer

    def find_fronts(networks: Sequence[Genotype]) -> list[list[Genotype]]:
        return [[member.genotype for member in find_front(ranker.rank(networks))] for ranker in rankers]

    scorer.score(pool, advance)
    return refine(space, pool, len(pool) + more, find_fronts, seed, lambda found: scorer.score(found, advance))


def refine(
    space: Space,
    pool: Sequence[Genotype],
    most: int,
    find_fronts: FindFronts,
    seed: int,
    on_found: Callable[[Sequence[Genotype]], object] = lambda found: None,
) -> list[Genotype]:
    """The pool, and neighbours of its moving fronts: at most `most` distinct networks.

    Args:
        pool: the first networks, distinct.
        most: networks in all.
        find_fronts: called once a round.
        on_found: gets the new networks of each round.
    """
    operators = GenotypeOperators(space, np.random.default_rng(seed))
    networks, known = list(pool), {representative(space, genotype) for genotype in pool}
    for left in range(ROUNDS, 0, -1):
        room = -(-(most - len(networks)) // left)
        if room <= 0:
            break
        found = _neighbours(operators, find_fronts(networks), known, room)
        on_found(found)
        networks += found
    return networks


def _neighbours(
    operators: GenotypeOperators, fronts: Sequence[Sequence[Genotype]], known: set[Genotype], room: int
) -> list[Genotype]:
    """At most `room` new networks, from the members of all fronts in turn. They join `known`."""
    parents = in_turn(fronts, sum(map(len, fronts)))
    found: list[Genotype] = []
    while parents and len(found) < room:
        fertile = []
        for parent in parents:
            if len(found) < room and (child := _child(operators, parent, known)) is not None:
                known.add(representative(operators.space, child))
                found.append(child)
                fertile.append(parent)
        parents = fertile
    return found


def _child(operators: GenotypeOperators, parent: Genotype, known: set[Genotype]) -> Genotype | None:
    space, columns = operators.space, operators.columns(parent)
    for _ in range(MOST_IDLE_TRIES):
        child = space.canonical(operators.genotype(operators.mutate(columns)))
        if representative(space, child) not in known:
            return child
    return None
