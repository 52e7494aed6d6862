"""Local search around the fronts of all devices (White, Nolen and Savani, 2021).

Alphas propose similar networks, and a front gains from different ones. So in spaces of cells most
of the evaluations go to neighbours of each device's front, round after round. A neighbour is a
mutation by `search.genotypes.genotype_operators`. The strategy nsga2 shares its rate. A round draws
more neighbours than it scores. A fit to the scores so far says which are expected to lie highest
above a front: by choices, parameters and longest path, which cost nothing to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from search.decoding.decoding import in_turn, representative
from search.family.family import Ranker
from search.family.pareto import find_front
from search.genotypes.genotype_operators import GenotypeOperators
from search.latency.latency_model import live_choices
from search.ranking.additive_fit import fit_ridge
from search.ranking.scoring import log_places, longest_path
from shared.spaces import Genotype, Space

ROUNDS = 6
DRAWN = 12
"""Neighbours that a round draws for each that it scores."""
MOST_IDLE_TRIES = 20
"""After so many mutations without a new network a parent is dropped."""

FindFronts = Callable[[Sequence[Genotype]], Sequence[Sequence[Genotype]]]
"""Finds the front of each device among scored networks."""
Choose = Callable[[Sequence[Genotype], Sequence[Genotype], int], Sequence[Genotype]]
"""Chooses at most so many of the drawn networks, knowing those that were scored before."""


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
    choose = partial(most_promising, space, rankers)
    return refine(space, pool, len(pool) + more, find_fronts, choose, seed, lambda found: scorer.score(found, advance))


def refine(
    space: Space,
    pool: Sequence[Genotype],
    most: int,
    find_fronts: FindFronts,
    choose: Choose,
    seed: int,
    on_found: Callable[[Sequence[Genotype]], object] = lambda found: None,
) -> list[Genotype]:
    """The pool, and neighbours of its moving fronts: at most `most` distinct networks.

    Args:
        pool: the first networks, distinct.
        most: networks in all.
        find_fronts, choose: called once a round.
        on_found: gets the new networks of each round.
    """
    operators = GenotypeOperators(space, np.random.default_rng(seed))
    networks, known = list(pool), {representative(space, genotype) for genotype in pool}
    for left in range(ROUNDS, 0, -1):
        room = -(-(most - len(networks)) // left)
        if room <= 0:
            break
        drawn = _neighbours(operators, find_fronts(networks), set(known), DRAWN * room)
        if not drawn:
            break
        found = choose(networks, drawn, room)
        on_found(found)
        networks += found
        known |= {representative(space, genotype) for genotype in found}
    return networks


def most_promising(
    space: Space, rankers: Sequence[Ranker], networks: Sequence[Genotype], drawn: Sequence[Genotype], room: int
) -> list[Genotype]:
    """The drawn networks that are expected to lie highest above the front, of each device in turn."""
    scored = [ranker.rank(networks) for ranker in rankers]
    places = log_places([member.rank for member in scored[0]])  # ranks are the same for every device
    expected = fit_ridge(_features(space, networks), places).predict(_features(space, drawn))
    queues = []
    for ranker, members in zip(rankers, scored, strict=True):
        bounds_ms = np.array([member.upper_ms for member in members])
        faster_first = np.argsort(bounds_ms)
        fronts = np.concatenate([[0.0], np.maximum.accumulate(places[faster_first])])
        faster = np.searchsorted(bounds_ms[faster_first], ranker.bounds_ms(drawn), side="right")
        best_first = np.argsort(fronts[faster] - expected, kind="stable")
        queues.append([drawn[index] for index in best_first])
    return in_turn(queues, room)


def _features(space: Space, genotypes: Sequence[Genotype]) -> npt.NDArray[np.float64]:
    """What is known of networks without scoring them, (networks, features)."""
    sizes = [[space.parameter_count(genotype), longest_path(space, genotype)] for genotype in genotypes]
    return np.hstack([live_choices(space, genotypes), np.log1p(np.reshape(sizes, (-1, 2)))])


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
