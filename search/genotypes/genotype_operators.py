"""Crossover and mutation of genotypes, from networks of a space to networks of the same space.

The strategies that evolve networks use them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search.genotypes.constrained_argmax import NONE, to_genotype
from shared.spaces import Genotype, Space

MOST_TRIES = 100
"""After so many disconnected draws the parents stay as they are."""
MUTATED_UNITS = 1
"""Units of a network that a mutation changes on average: the rate is this over all units."""

Columns = npt.NDArray[np.int64]


class GenotypeOperators:
    """Operators of a space. A unit is a free slot, or a group of slots that choose together."""

    def __init__(self, space: Space, draws: np.random.Generator) -> None:
        self.space = space
        self._draws = draws
        self._signatures: dict[tuple[int, ...], str] = {}
        grouped = {slot: group for group in space.groups for slot in group.slots}
        free = [(slot,) for slot in range(len(space.slots)) if slot not in grouped]
        self._units: list[tuple[int, ...]] = [*free, *(group.slots for group in space.groups)]
        self._is_group = [unit not in free for unit in self._units]

    def columns(self, genotype: Genotype) -> Columns:
        """The column of alpha of each choice, (slots,)."""
        return np.array(
            [slot.primitives.index(choice) for slot, choice in zip(self.space.slots, genotype.choices, strict=True)]
        )

    def genotype(self, columns: Columns | Sequence[int]) -> Genotype:
        return to_genotype(self.space, columns)

    def signature(self, columns: Columns) -> str:
        """Equal for networks that compute the same."""
        key = tuple(int(i) for i in columns)
        if key not in self._signatures:
            self._signatures[key] = self.space.signature(self.genotype(key))
        return self._signatures[key]

    def cross(self, columns: Columns, other: Columns) -> tuple[Columns, Columns]:
        """Uniform crossover: each unit is swapped with probability 1/2."""
        for _ in range(MOST_TRIES):
            first, second = columns.copy(), other.copy()
            for unit in self._units:
                if self._draws.random() < 0.5:
                    slots = list(unit)
                    first[slots], second[slots] = other[slots], columns[slots]
            if self._connects(first) and self._connects(second):
                return first, second
        return columns.copy(), other.copy()

    def mutate(self, columns: Columns) -> Columns:
        """A network that differs in at least one unit."""
        for _ in range(MOST_TRIES):
            changed = columns.copy()
            hit = self._draws.random(len(self._units)) < MUTATED_UNITS / len(self._units)
            hit[self._draws.integers(len(self._units))] |= not hit.any()
            for place in np.flatnonzero(hit):
                if self._is_group[place]:
                    self._change_group(changed, self._units[place])
                else:
                    self._change_op(changed, self._units[place][0])
            if self._connects(changed):
                return changed
        return columns.copy()

    def _change_group(self, columns: Columns, slots: tuple[int, ...]) -> None:
        """Change the op of a kept slot, or move it to a slot that was not kept."""
        none = self.space.slots[slots[0]].primitives.index(NONE)
        kept = [slot for slot in slots if columns[slot] != none]
        left = [slot for slot in slots if columns[slot] == none]
        slot = kept[self._draws.integers(len(kept))]
        if left and self._draws.random() < 0.5:
            to = left[self._draws.integers(len(left))]
            columns[to], columns[slot] = columns[slot], none
        else:
            self._change_op(columns, slot, without=none)

    def _change_op(self, columns: Columns, slot: int, without: int | None = None) -> None:
        others = [i for i in range(len(self.space.slots[slot].primitives)) if i not in (columns[slot], without)]
        columns[slot] = others[self._draws.integers(len(others))]

    def _connects(self, columns: Columns) -> bool:
        return self.space.is_connected(self.genotype(columns))
