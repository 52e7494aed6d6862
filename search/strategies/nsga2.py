"""NSGA-II (Deb et al., 2002) on latency bound and rank, by pymoo (Blank and Deb, 2020).

Networks are strings of choices. Crossover and mutation keep slots and groups of slots (a node of
`darts`) whole, so every offspring is a network of the space. An offspring that does not connect
input and output is drawn again. No network is scored twice.

A rank depends on all scored networks. Parents are therefore ranked again after each generation:
otherwise networks ranked among few would look better than their offspring.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from search.decoding.decoding import Decoder
from search.family.build import spread
from search.family.candidate_pool import draw_pool, merge_distinct
from search.family.family import FamilySettings, Member
from search.genotypes.genotype_operators import GenotypeOperators
from search.strategies.context import Bench, Outcome
from search.strategies.one_shot import make_outcome, open_ranker, stopping
from shared.errors import InvalidValue, LutnasError
from shared.spaces import Genotype, Space

MOST_IDLE_GENERATIONS = 10
"""After so many generations without a new network the evolution ends."""

Objectives = Callable[[Sequence[Genotype]], npt.NDArray[np.float64]]
"""Values to minimise, (genotypes, 2), of all networks so far; known networks come first."""


@dataclass(frozen=True)
class Nsga2:
    """Networks of a generation, and most networks to return."""

    population: int = 24
    members: int = FamilySettings.members

    uses_one_shot: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_pymoo()
        for name, least in (("population", 4), ("members", 1)):
            if getattr(self, name) < least:
                raise InvalidValue(f"nsga2:{name}", f"{getattr(self, name)} is not {least} or more")

    def search(self, bench: Bench) -> Outcome:
        run, decoder, seed = bench.get_one_shot(), bench.decoder, bench.config.seed
        ranker = open_ranker(bench, run)
        first = draw_first(decoder, min(self.population, bench.evaluations), seed)
        ranked: list[Member] = []
        with bench.progress.phase("evolving networks", bench.evaluations) as phase:

            def bound_and_rank(genotypes: Sequence[Genotype]) -> npt.NDArray[np.float64]:
                known = len(ranked)
                ranked[:] = ranker.rank(genotypes, stopping(bench, lambda count: None))
                phase.advance(len(ranked) - known)
                return np.array([(member.upper_ms, member.rank) for member in ranked])

            evolve(bench.space, first, bound_and_rank, bench.evaluations, seed)
        return make_outcome(bench, run, ranked, self.members)


def draw_first(decoder: Decoder, size: int, seed: int) -> list[Genotype]:
    """The fastest network, and others drawn under budgets from the fastest to the slowest."""
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, FamilySettings.budgets)
    return merge_distinct([decoder.fastest], draw_pool(decoder, budgets_ms, size, random.Random(seed)))[:size]


def evolve(
    space: Space, first: Sequence[Genotype], objectives: Objectives, evaluations: int, seed: int
) -> list[Genotype]:
    """Evolve networks, in populations as large as the first.

    Args:
        first: population, connected and distinct.
        objectives: called once per generation, for all networks so far.
        evaluations: most distinct networks, the first population included.

    Returns:
        Every evaluated network, in order.

    Raises:
        LutnasError: pymoo is not installed.
    """
    require_pymoo()
    from search.strategies.pymoo_evolution import make_algorithm  # pymoo is slow

    operators = GenotypeOperators(space, np.random.default_rng(seed))
    algorithm = make_algorithm(operators, np.array([operators.columns(genotype) for genotype in first]), seed)
    known: dict[str, Genotype] = {}
    idle = 0
    while len(known) < evaluations and idle < MOST_IDLE_GENERATIONS:
        offspring = algorithm.ask()
        if offspring is None or not len(offspring):
            break
        before = len(known)
        offspring = offspring[_affordable(offspring, operators, known, evaluations)]
        idle = 0 if len(known) > before else idle + 1
        values = dict(zip(known, objectives(list(known.values())), strict=True))
        parents = () if algorithm.pop is None else algorithm.pop
        for individual in (*parents, *offspring):
            individual.F = values[operators.signature(individual.X)]
        algorithm.tell(infills=offspring)
    return list(known.values())


def _affordable(
    offspring: Sequence[Any], operators: GenotypeOperators, known: dict[str, Genotype], evaluations: int
) -> list[int]:
    """Indices of the offspring that are known or may still be evaluated; these join `known`."""
    kept = []
    for index, individual in enumerate(offspring):
        signature = operators.signature(individual.X)
        if signature in known or len(known) < evaluations:
            known.setdefault(signature, operators.space.canonical(operators.genotype(individual.X)))
            kept.append(index)
    return kept


def require_pymoo() -> None:
    """Raise LutnasError unless pymoo is installed."""
    if find_spec("pymoo") is None:
        raise LutnasError("nsga2 needs pymoo, which is not installed: pip install 'lutnas[compare]' brings it")
