"""The interface of a search space. Each space is a module beside this one.

A new space needs:

* a module here with a subclass of `Space`, and its import in `shared.spaces`;
* its new primitives in two places, which `shared.spaces.primitives` names;
* its cell's picture in `search.report.cells`; without it the report lists the choices.

Every slot needs the same primitives in the same order: the columns of alpha. The space of a user's
own model (`shared.spaces.own`) needs as many columns alone.
"""

from __future__ import annotations

import math
import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from shared.errors import InvalidValue, UnknownName
from shared.spaces.op_key import OpKey, Shape
from shared.spaces.primitives import multiply_adds, parameter_count
from shared.spaces.wiring import Step

SKELETON_SIDES = {"resolution": 4096, "channels": 4096, "depth": 64, "classes": 100_000, "image_channels": 64}
SPACES: dict[str, type[Space]] = {}
"""Every space by its name."""
_SPACE = re.compile(r"([a-z0-9-]+)/r(\d{1,5})/c(\d{1,5})/n(\d{1,5})/k(\d{1,6})/i(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place with a choice of primitives. `primitives` is the column order of alpha."""

    name: str
    primitives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Slots with exactly `kept` ops; the others choose "none"."""

    slots: tuple[int, ...]
    kept: int


@dataclass(frozen=True, order=True, slots=True)
class Genotype:
    """A choice per slot, in the space's slot order. The space has its string form."""

    choices: tuple[str, ...]


@dataclass(frozen=True)
class Space(ABC):
    """Slots plus skeleton. Latency, parameters and multiply-adds count only ops that reach the output.

    Attributes:
        name: on the command line and on the wire.
        resolution: height and width of the input image, pixels.
        depth: cells per stage (nas-bench-201), cells (darts), layers per repeated
            stage (fbnet), layers per stage (mobile), layers of the later stages (nas-bench-macro).
    """

    name: ClassVar[str]
    resolution: int = 32
    channels: int = 16
    depth: int = 5
    classes: int = 10
    image_channels: int = 3

    def __init_subclass__(cls, listed: bool = True) -> None:
        if listed and "name" in vars(cls):  # a base of several spaces has none
            SPACES[cls.name] = cls

    def __post_init__(self) -> None:
        for field, largest in SKELETON_SIDES.items():
            value = getattr(self, field)
            if not 1 <= value <= largest:
                raise InvalidValue(field, f"{value} is not within 1 to {largest}")
        if self.resolution % self.total_stride:
            problem = f"{self.resolution} is not a multiple of {self.total_stride}, the total stride"
            raise InvalidValue("resolution", problem)

    @property
    def total_stride(self) -> int:
        """Sides of the image per side of the last feature map."""
        return 1

    @property
    @abstractmethod
    def slots(self) -> tuple[Slot, ...]:
        """The slots, in the order of a genotype's choices."""

    @abstractmethod
    def format(self, genotype: Genotype) -> str:
        """String form, as the space's original project writes it."""

    @abstractmethod
    def parse(self, text: str) -> Genotype:
        """Inverse of `format`.

        Raises:
            InvalidValue: the text is not a genotype of this space.
        """

    @abstractmethod
    def live_slots(self, genotype: Genotype) -> tuple[int, ...]:
        """Indices of the slots that reach the output; empty if nothing connects it to the input."""

    @abstractmethod
    def slot_ops(self, slot: int, primitive: str) -> tuple[OpKey, ...]:
        """The op keys of a live choice, once per op instance; none for "none"."""

    @abstractmethod
    def fixed_ops(self) -> tuple[OpKey, ...]:
        """The op keys of stem, reductions and head, once per op instance."""

    @abstractmethod
    def fastest(self) -> Genotype:
        """The connected network with the fewest ops."""

    @abstractmethod
    def wiring(self, genotype: Genotype) -> tuple[Step, ...]:
        """How the ops that reach the output are joined; the last step is the output."""

    @abstractmethod
    def supernet_wiring(self) -> tuple[Step, ...]:
        """How the ops of all networks are joined: a step with all candidates per use of a slot.

        The names are those of `wiring`, so that a network finds its tensors in a supernet.
        """

    @property
    def groups(self) -> tuple[Group, ...]:
        """Slots with dependent choices; empty if every slot is independent."""
        return ()

    @property
    def genotype_count(self) -> int:
        """Genotypes of the space, connected or not."""
        return math.prod(len(slot.primitives) for slot in self.slots)

    def __str__(self) -> str:
        return f"{self.name}/r{self.resolution}/c{self.channels}/n{self.depth}/k{self.classes}/i{self.image_channels}"

    @property
    def input_shape(self) -> Shape:
        """Shape of an input image."""
        return Shape(self.image_channels, self.resolution, self.resolution)

    def check(self, genotype: Genotype) -> None:
        """Raise InvalidValue unless the genotype chooses a known primitive per slot."""
        if len(genotype.choices) != len(self.slots):
            problem = f"{len(genotype.choices)} choices for the {len(self.slots)} slots of {self.name}"
            raise InvalidValue("genotype", problem)
        for slot, choice in zip(self.slots, genotype.choices, strict=True):
            if choice not in slot.primitives:
                known = ", ".join(slot.primitives)
                raise InvalidValue("genotype", f"'{choice}' is no primitive of {self.name} at {slot.name} ({known})")

    def is_connected(self, genotype: Genotype) -> bool:
        """Whether the input reaches the output."""
        return bool(self.live_slots(genotype))

    def check_network(self, genotype: Genotype) -> None:
        """Raise InvalidValue unless the genotype is of this space and connects input and output."""
        self.check(genotype)
        if not self.is_connected(genotype):
            raise InvalidValue("genotype", f"{self.format(genotype)} does not connect input and output")

    def canonical(self, genotype: Genotype) -> Genotype:
        """The genotype with "none" in every dead slot: the same function."""
        live = set(self.live_slots(genotype))
        return Genotype(tuple(c if i in live else "none" for i, c in enumerate(genotype.choices)))

    def signature(self, genotype: Genotype) -> str:
        """Equal for genotypes that compute the same function of the same weights."""
        return self.format(self.canonical(genotype))

    def op_counts(self, genotype: Genotype) -> Counter[OpKey]:
        """How often each priced op key (slots only, not the fixed part) occurs in the network."""
        counts: Counter[OpKey] = Counter()
        for slot in self.live_slots(genotype):
            counts.update(self.slot_ops(slot, genotype.choices[slot]))
        return counts

    def op_keys(self) -> tuple[OpKey, ...]:
        """Every op key that a slot can put into a network, sorted: the rows of a latency table."""
        choices = ((index, primitive) for index, slot in enumerate(self.slots) for primitive in slot.primitives)
        return tuple(sorted({key for choice in choices for key in self.slot_ops(*choice)}))

    @property
    def measured_ops(self) -> tuple[OpKey, ...]:
        """The op keys that a campaign measures by themselves."""
        return self.op_keys()

    @property
    def first_measured(self) -> tuple[Genotype, ...]:
        """Networks that every campaign measures whole, before others are sampled."""
        return (self.fastest(),)

    def parameter_count(self, genotype: Genotype) -> int:
        """Trainable parameters of the ops that reach the output, fixed part included."""
        return _total(self, genotype, parameter_count)

    def multiply_adds(self, genotype: Genotype) -> int:
        """Multiply-adds for an image. Papers call them FLOPs."""
        return _total(self, genotype, multiply_adds)

    def sample(self, rng: random.Random) -> Genotype:
        """A connected genotype, uniform over the choices of the slots."""
        while True:
            genotype = Genotype(tuple(rng.choice(slot.primitives) for slot in self.slots))
            if self.is_connected(genotype):
                return genotype


@dataclass(frozen=True)
class IndependentSlots(Space):
    """A space in which every slot reaches the output, whatever the others choose.

    Attributes:
        separator: of the choices in a genotype's string form.
    """

    separator: ClassVar[str]

    def format(self, genotype: Genotype) -> str:
        return self.separator.join(genotype.choices)

    def parse(self, text: str) -> Genotype:
        genotype = Genotype(tuple(text.split(self.separator)))
        self.check(genotype)
        return genotype

    def live_slots(self, genotype: Genotype) -> tuple[int, ...]:
        return tuple(range(len(genotype.choices)))

    def canonical(self, genotype: Genotype) -> Genotype:
        return genotype


def make_space(name: str, **skeleton: int | None) -> Space:
    """A space by name. A parameter that is left out or None has the space's default.

    Args:
        name: as in `SPACES`.
        **skeleton: resolution, channels, depth, classes, image_channels.

    Raises:
        UnknownName: no space has that name.
        InvalidValue: a parameter is outside its domain.
    """
    if name not in SPACES:
        raise UnknownName("space", name, SPACES)
    return SPACES[name](**{field: value for field, value in skeleton.items() if value is not None})


def parse_space(text: str) -> Space:
    """Inverse of `str(space)`.

    Raises:
        InvalidValue: the text is not a space.
        UnknownName: no space has that name.
    """
    if text.startswith("own/"):
        from shared.spaces.own import parse_own  # that module imports this module

        return parse_own(text)
    match = _SPACE.fullmatch(text)
    if match is None:
        raise InvalidValue("space", f"'{text[:100]}' does not read NAME/rN/cN/nN/kN/iN")
    space = _built_in(match.group(1), *map(int, match.groups()[1:]))
    if str(space) != text:  # other digits, or zeros before them
        raise InvalidValue("space", f"'{text[:100]}' is written {space}")
    return space


@lru_cache(maxsize=64)
def _built_in(name: str, *sides: int) -> Space:
    """Kept, so that the many graphs of a plan share a space and what it computes once."""
    return make_space(name, **dict(zip(SKELETON_SIDES, sides, strict=True)))


@lru_cache(maxsize=1 << 15)
def _total(space: Space, genotype: Genotype, cost: Callable[[OpKey], int]) -> int:
    """Cost of fixed and live ops. Cached: many devices need the same networks."""
    fixed = sum(map(cost, space.fixed_ops()))
    return fixed + sum(cost(key) * n for key, n in space.op_counts(genotype).items())
