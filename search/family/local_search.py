"""Look on where the fronts are: what alphas proposed is scored, and what stands next to the best of it comes after.

Alphas agree on networks that are alike, and a front gains from what is different. So part of the networks that may be
scored is kept back for neighbours of each device's front, round after round: local search, as strong a method as any
in spaces of cells (White, Nolen and Savani, 2021), on several fronts at once. A neighbour differs in one slot or group
of slots on average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from search.family.candidate_pool import in_turn
from search.genotypes.enumeration import representative
from search.genotypes.genotype_operators import GenotypeOperators
from shared.spaces import Genotype, Space

ROUNDS = 6
MOST_IDLE_TRIES = 20
"""Mutations of one network without a new one, after which it has nothing to offer."""

FindFronts = Callable[[Sequence[Genotype]], Sequence[Sequence[Genotype]]]
"""The front of each device among networks, all of which have to be scored for it."""


def refine(space: Space, pool: Sequence[Genotype], most: int, find_fronts: FindFronts, seed: int) -> list[Genotype]:
    """The pool, and neighbours of its fronts as they move: distinct networks, at most so many.

    Args:
        space: of the networks.
        pool: where to begin, distinct.
        most: networks in all.
        find_fronts: asked once a round.
        seed: of the mutations.
    """
    operators = GenotypeOperators(space, np.random.default_rng(seed))
    networks, known = list(pool), {representative(space, one) for one in pool}
    for left in range(ROUNDS, 0, -1):
        room = -(-(most - len(networks)) // left)
        if room <= 0:
            break
        networks += _neighbours(operators, find_fronts(networks), known, room)
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
