"""Enumeration of small spaces: every genotype, and a representative of each computed function."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from search.genotypes.constrained_argmax import to_genotype
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space

MOST_ENUMERATED = 1_000_000


@dataclass(frozen=True)
class Enumeration:
    """All connected genotypes of a space, and the functions that they compute.

    Attributes:
        choices: columns of alpha, (genotypes, slots).
        form: (genotypes,), index into `forms`.
        forms: the distinct canonical forms.
        function: (forms,), number of the function that a form computes.
    """

    choices: npt.NDArray[np.int64]
    form: npt.NDArray[np.int64]
    forms: tuple[Genotype, ...]
    function: npt.NDArray[np.int64]

    @cached_property
    def representatives(self) -> tuple[Genotype, ...]:
        """The first form of each function, by number."""
        _, first = np.unique(self.function, return_index=True)
        return tuple(self.forms[index] for index in first)

    @cached_property
    def number(self) -> dict[Genotype, int]:
        """Of the function of each form."""
        return dict(zip(self.forms, self.function.tolist(), strict=True))


def genotype_count(space: Space) -> int:
    """Genotypes of a space, connected or not."""
    return math.prod(len(slot.primitives) for slot in space.slots)


@lru_cache(maxsize=4)
def enumerate_space(space: Space) -> Enumeration:
    """Enumerate a space. NAS-Bench-201 takes about a second, once per process.

    Raises:
        InvalidValue: the space is too large.
    """
    if not is_listable(space):
        raise InvalidValue("space", f"{space.name} has {genotype_count(space):.3g} genotypes, too many to enumerate")
    choices, form, forms = [], [], dict[Genotype, int]()
    for columns in itertools.product(*(range(len(slot.primitives)) for slot in space.slots)):
        canonical = space.canonical(to_genotype(space, columns))
        if not space.is_connected(canonical):
            continue
        choices.append(columns)
        form.append(forms.setdefault(canonical, len(forms)))
    numbers: dict[str, int] = {}
    function = [numbers.setdefault(space.signature(genotype), len(numbers)) for genotype in forms]
    return Enumeration(np.array(choices), np.array(form), tuple(forms), np.array(function))


def is_listable(space: Space) -> bool:
    """Whether `enumerate_space` takes the space."""
    return genotype_count(space) <= MOST_ENUMERATED


def representative(space: Space, genotype: Genotype) -> Genotype:
    """The same network for all of the same function; in large spaces the canonical form."""
    form = space.canonical(genotype)
    if not is_listable(space):
        return form
    listed = enumerate_space(space)
    return listed.representatives[listed.number[form]]
