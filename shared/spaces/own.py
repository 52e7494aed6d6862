"""The networks that the choices of someone's own model make, known by a hash and by numbers alone.

own/HASH/r96/i3/k10/3.3.2    the model; side and channels of an image; classes; candidates per choice

A network is `0.2.1`, the place of the candidate of each choice. Names, modules and the networks'
files are the search's: nobody builds a network of this space from its reference.

Alpha has as many columns for each slot. A choice with fewer candidates than another has them again
in the columns that are left: these are the same networks, by the same names.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NoReturn

from shared.errors import InvalidValue
from shared.spaces.op_key import OpKey
from shared.spaces.primitives import CANDIDATE
from shared.spaces.space import Genotype, IndependentSlots, Slot

LONGEST = 200
"""Characters of a space's string, as a database takes them."""
_MODEL = re.compile(r"[0-9a-f]{16}")
_OWN = re.compile(r"own/([0-9a-f]{16})/r(\d{1,5})/i(\d{1,5})/k(\d{1,6})/(\d{1,2}(?:\.\d{1,2})*)")


@dataclass(frozen=True)
class Own(IndependentSlots, listed=False):
    """The space of a model with choices. Its channels and its depth say nothing.

    Attributes:
        model: hash of the choices and of the networks' graphs.
        candidates: how many each choice has, two or more.
    """

    name: ClassVar[str] = "own"
    separator: ClassVar[str] = "."
    model: str = ""
    candidates: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _MODEL.fullmatch(self.model):
            raise InvalidValue("space", f"'{self.model[:40]}' is no hash of a model")
        if not self.candidates or not all(2 <= count < 100 for count in self.candidates):
            raise InvalidValue("space", "a choice has fewer than 2 candidates, or more than 99")
        if len(str(self)) > LONGEST:
            raise InvalidValue("space", f"{len(self.candidates)} choices are too many: a table has room for about 80")

    def __str__(self) -> str:
        counts = ".".join(map(str, self.candidates))
        return f"own/{self.model}/r{self.resolution}/i{self.image_channels}/k{self.classes}/{counts}"

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        width = max(self.candidates)
        return tuple(
            Slot(f"choice{place}", tuple(str(column % count) for column in range(width)))
            for place, count in enumerate(self.candidates)
        )

    @property
    def networks(self) -> int:
        """How many there are; `genotype_count` counts columns."""
        return math.prod(self.candidates)

    def slot_ops(self, slot: int, primitive: str) -> tuple[OpKey, ...]:
        """A row of the table for each candidate. Its shapes are the image's: nobody here knows others."""
        return (OpKey(f"{CANDIDATE}{slot}_{primitive}", self.input_shape, self.input_shape, 1),)

    def fixed_ops(self) -> tuple[OpKey, ...]:
        return ()

    def fastest(self) -> Genotype:
        """The network of the first candidates: which is the fastest, measuring says."""
        return Genotype(("0",) * len(self.candidates))

    @property
    def measured_ops(self) -> tuple[OpKey, ...]:
        return ()

    @property
    def first_measured(self) -> tuple[Genotype, ...]:
        """As few networks as hold every candidate."""
        return tuple(
            Genotype(tuple(slot.primitives[column] for slot in self.slots)) for column in range(max(self.candidates))
        )

    def wiring(self, genotype: Genotype) -> NoReturn:
        raise InvalidValue("space", f"{self} is of someone's own model: its networks are files, and have no recipe")

    def supernet_wiring(self) -> NoReturn:
        raise InvalidValue("space", f"{self} is of someone's own model: search run alone knows its modules")


def parse_own(text: str) -> Own:
    """Inverse of `str(own)`.

    Raises:
        InvalidValue: the text is none.
    """
    match = _OWN.fullmatch(text)
    if match is None:
        raise InvalidValue("space", f"'{text[:100]}' does not read own/HASH/rN/iN/kN/N.N, as `search space` prints it")
    model, side, channels, classes, counts = match.groups()
    space = Own(int(side), 1, 1, int(classes), int(channels), model, tuple(map(int, counts.split("."))))
    if str(space) != text:
        raise InvalidValue("space", f"'{text[:100]}' is written {space}")
    return space
