"""The search spaces, and their one string form: NAME/rRESOLUTION/cCHANNELS/nCELLS/kCLASSES/iIMAGE_CHANNELS."""

from __future__ import annotations

import re

from shared.errors import InvalidValue, UnknownName
from shared.spaces.nas_bench_201 import NasBench201
from shared.spaces.space import Genotype, Slot, Space

__all__ = ["SPACES", "Genotype", "NasBench201", "Slot", "Space", "make_space", "parse_space"]

SPACES: dict[str, type[Space]] = {"nas-bench-201": NasBench201}

_SPACE = re.compile(r"([a-z0-9-]+)/r(\d{1,5})/c(\d{1,5})/n(\d{1,5})/k(\d{1,6})/i(\d{1,5})")


def make_space(
    name: str,
    resolution: int = 32,
    channels: int = 16,
    cells_per_stage: int = 5,
    classes: int = 10,
    image_channels: int = 3,
) -> Space:
    """Build a space by name.

    Raises:
        UnknownName: no space has that name.
        InvalidValue: a parameter is outside its domain.
    """
    if name not in SPACES:
        raise UnknownName("space", name, SPACES)
    return SPACES[name](resolution, channels, cells_per_stage, classes, image_channels)


def parse_space(text: str) -> Space:
    """Inverse of `str(space)`.

    Raises:
        InvalidValue: the text is not a space.
        UnknownName: no space has that name.
    """
    match = _SPACE.fullmatch(text)
    if match is None:
        raise InvalidValue("space", f"'{text[:100]}' does not read NAME/rN/cN/nN/kN/iN")
    return make_space(match.group(1), *(int(group) for group in match.groups()[1:]))
