"""Look on where the fronts are: what alphas proposed is scored, and what stands next to the best of it comes after.

Alphas agree on networks that are alike, and a front gains from what is different. So part of the networks that may be
scored is kept back for neighbours of each device's front, round after round: local search, as strong a method as any
in spaces of cells (White, Nolen and Savani, 2021), on several fronts at once. A neighbour differs in one slot or group
of slots on average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from search.decoding.decoding import in_turn
from search.family.candidates import Ranker
from search.family.pareto import find_front
from search.genotypes.enumeration import representative
from search.genotypes.genotype_operators import GenotypeOperators
from shared.spaces import Genotype, Space

ROUNDS = 6
MOST_IDLE_TRIES = 20
"""Mutations of one network without a new one, after which it has nothing to offer."""

FindFronts = Callable[[Sequence[Genotype]], Sequence[Sequence[Genotype]]]
"""The front of each device among networks, all of which have to be scored for it."""


def score_with_neighbours(
    space: Space,
    pool: Sequence[Genotype],
    more: int,
    rankers: Sequence[Ranker],
    seed: int,
    advance: Callable[[int], None],
) -> list[Genotype]:
    """Score the pool, then `more` neighbours of its fronts as they move; the pool comes first in the result.

    Args:
        space: of the networks.
        pool: where to begin, distinct.
        more: neighbours to score.
        rankers: one for each device; all score with the same scorer.
        seed: of the mutations.
        advance: told how many networks are scored, as they are.
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
    """The pool, and neighbours of its fronts as they move: distinct networks, at most so many.

    Args:
        space: of the networks.
        pool: where to begin, distinct.
        most: networks in all.
        find_fronts: asked once a round.
        seed: of the mutations.
        on_found: told the new networks of each round.
    """
    operators = GenotypeOperators(space, np.random.default_rng(seed))
    networks, known = list(pool), {representative(space, one) for one in pool}
    for left in range(ROUNDS, 0, -1):
        room = -(-(most - len(networks)) // left)
        if room <= 0:
            break
        found = _neighbours(operators, find_fronts(networks), known, room)
        on_found(found)
        networks += found
    return networks


def _neighbours(
    operators: GenotypeOperators,
    fronts: Sequence[Sequence[Genotype]],
    known: set[Genotype],
    room: int,
) -> list[Genotype]:
    """As many networks that are not known yet (then they are), from the members of all fronts in turn."""
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
