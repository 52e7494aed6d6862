"""Spaces that are small enough to be listed: every genotype, what it computes, and one name for each function."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidValue
from shared.spaces import Genotype, Space

MOST_ENUMERATED = 1_000_000


@dataclass(frozen=True)
class Enumeration:
    """All genotypes of a space, each as column indices of alpha, and what each one computes.

    Attributes:
        choices: (connected genotypes, slots).
        form: (connected genotypes,), index into `forms`.
        forms: every connected genotype in canonical form, once.
        function: (forms,), the number of the function that a form computes.
    """

    choices: npt.NDArray[np.int64]
    form: npt.NDArray[np.int64]
    forms: tuple[Genotype, ...]
    function: npt.NDArray[np.int64]

    @cached_property
    def representatives(self) -> tuple[Genotype, ...]:
        """For each function its first form, by the functions' numbers."""
        _, first = np.unique(self.function, return_index=True)
        return tuple(self.forms[index] for index in first)

    @cached_property
    def number(self) -> dict[Genotype, int]:
        """The number of the function of each form."""
        return dict(zip(self.forms, self.function.tolist(), strict=True))


def genotype_count(space: Space) -> int:
    """Genotypes of a space, connected or not."""
    return math.prod(len(slot.primitives) for slot in space.slots)


@lru_cache(maxsize=4)
def enumerate_space(space: Space) -> Enumeration:
    """List a space. Takes about a second for NAS-Bench-201, once per process.

    Raises:
        InvalidValue: the space is too large to be listed.
    """
    if genotype_count(space) > MOST_ENUMERATED:
        raise InvalidValue("space", f"{space.name} has {genotype_count(space):.3g} genotypes, too many to enumerate")
    choices, form, forms = [], [], dict[Genotype, int]()
    for columns in itertools.product(*(range(len(slot.primitives)) for slot in space.slots)):
        names = tuple(slot.primitives[column] for slot, column in zip(space.slots, columns, strict=True))
        canonical = space.canonical(Genotype(names))
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
    """One network for all that compute the same function, where the space can be listed; else the canonical form."""
    form = space.canonical(genotype)
    if not is_listable(space):
        return form
    listed = enumerate_space(space)
    return listed.representatives[listed.number[form]]
