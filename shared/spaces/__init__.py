"""The search spaces by name, and their string form."""

from __future__ import annotations

import re

from shared.errors import InvalidValue, UnknownName
from shared.spaces.darts import Darts
from shared.spaces.fbnet import FBNet
from shared.spaces.nas_bench_201 import NasBench201
from shared.spaces.space import Genotype, Group, Slot, Space

__all__ = ["SPACES", "Darts", "FBNet", "Genotype", "Group", "NasBench201", "Slot", "Space", "make_space", "parse_space"]

SPACES: dict[str, type[Space]] = {"nas-bench-201": NasBench201, "darts": Darts, "fbnet": FBNet}

_SPACE = re.compile(r"([a-z0-9-]+)/r(\d{1,5})/c(\d{1,5})/n(\d{1,5})/k(\d{1,6})/i(\d{1,5})")


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
    match = _SPACE.fullmatch(text)
    if match is None:
        raise InvalidValue("space", f"'{text[:100]}' does not read NAME/rN/cN/nN/kN/iN")
    fields = ("resolution", "channels", "depth", "classes", "image_channels")
    return make_space(match.group(1), **dict(zip(fields, map(int, match.groups()[1:]), strict=True)))
