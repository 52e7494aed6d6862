"""NSGA-II of pymoo over columns of genotypes. Imported only for an evolution: pymoo is an extra."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import ElementwiseDuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from search.genotypes.genotype_operators import GenotypeOperators


class _GenotypeCrossover(Crossover):  # type: ignore[misc]
    def __init__(self, operators: GenotypeOperators) -> None:
        super().__init__(n_parents=2, n_offsprings=2, prob=0.9)
        self._operators = operators

    def _do(self, problem: Problem, X: Any, *args: Any, **kwargs: Any) -> Any:
        pairs = [self._operators.cross(first, second) for first, second in zip(X[0], X[1], strict=True)]
        return np.array(pairs).transpose(1, 0, 2)


class _GenotypeMutation(Mutation):  # type: ignore[misc]
    def __init__(self, operators: GenotypeOperators) -> None:
        super().__init__(prob=1.0)
        self._operators = operators

    def _do(self, problem: Problem, X: Any, *args: Any, **kwargs: Any) -> Any:
        return np.array([self._operators.mutate(columns) for columns in X])


class _SameFunction(ElementwiseDuplicateElimination):  # type: ignore[misc]
    """Genotypes that compute the same are duplicates."""

    def __init__(self, operators: GenotypeOperators) -> None:
        super().__init__()
        self._operators = operators

    def is_equal(self, a: Any, b: Any) -> bool:
        return self._operators.signature(a.X) == self._operators.signature(b.X)


def make_algorithm(operators: GenotypeOperators, first: npt.NDArray[np.int64], seed: int) -> NSGA2:
    """The algorithm, ready for `ask`, with a first population (networks, slots)."""
    algorithm = NSGA2(
        pop_size=len(first),
        sampling=first,
        crossover=_GenotypeCrossover(operators),
        mutation=_GenotypeMutation(operators),
        eliminate_duplicates=_SameFunction(operators),
    )
    most = [len(slot.primitives) - 1 for slot in operators.space.slots]
    problem = Problem(n_var=first.shape[1], n_obj=2, xl=0, xu=np.array(most), vtype=int)
    algorithm.setup(problem, termination=NoTermination(), seed=seed, verbose=False)
    return algorithm
