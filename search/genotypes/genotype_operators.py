"""Crossover and mutation of genotypes: what goes in are networks of a space, what comes out is, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search.genotypes.constrained_argmax import NONE
from shared.spaces import Genotype, Space

MOST_TRIES = 100
"""Draws until a network connects input and output; after so many a parent goes on as it is."""

Columns = npt.NDArray[np.int64]


class GenotypeOperators:
    """Draws for one space; a unit is a slot that chooses for itself, or a group of slots that choose together.

    Args:
        space: of the genotypes.
        draws: of every random choice.
    """

    def __init__(self, space: Space, draws: np.random.Generator) -> None:
        self.space = space
        self._draws = draws
        self._signatures: dict[tuple[int, ...], str] = {}
        grouped = {slot: group for group in space.groups for slot in group.slots}
        free = [(slot,) for slot in range(len(space.slots)) if slot not in grouped]
        self._units: list[tuple[int, ...]] = [*free, *(group.slots for group in space.groups)]
        self._is_group = [unit not in free for unit in self._units]

    def columns(self, genotype: Genotype) -> Columns:
        """One primitive's index per slot, (slots,)."""
        return np.array(
            [slot.primitives.index(choice) for slot, choice in zip(self.space.slots, genotype.choices, strict=True)]
        )

    def genotype(self, columns: Columns | Sequence[int]) -> Genotype:
        """Inverse of `columns`."""
        return Genotype(tuple(slot.primitives[int(i)] for slot, i in zip(self.space.slots, columns, strict=True)))

    def signature(self, columns: Columns) -> str:
        """Equal for networks that compute the same."""
        key = tuple(int(i) for i in columns)
        if key not in self._signatures:
            self._signatures[key] = self.space.signature(self.genotype(key))
        return self._signatures[key]

    def cross(self, one: Columns, other: Columns) -> tuple[Columns, Columns]:
        """Two networks that have each unit from either parent, and what one has not the other has."""
        for _ in range(MOST_TRIES):
            first, second = one.copy(), other.copy()
            for unit in self._units:
                if self._draws.random() < 0.5:
                    slots = list(unit)
                    first[slots], second[slots] = other[slots], one[slots]
            if self._connects(first) and self._connects(second):
                return first, second
        return one.copy(), other.copy()

    def mutate(self, columns: Columns) -> Columns:
        """A network that differs in one unit or more: on average one."""
        for _ in range(MOST_TRIES):
            changed = columns.copy()
            hit = self._draws.random(len(self._units)) < 1 / len(self._units)
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
        """Another op on a kept slot, or the same op on a slot that was not kept."""
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
