"""The key of a latency table's rows, and its string form.

nor_conv_3x3/16x32x32/16x32x32/s1    primitive / input / output / stride, shapes CxHxW
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import InvalidValue

_NAME = r"[a-z][a-z0-9_]*"
_NUMBER = r"(\d{1,9})"
_SHAPE = f"{_NUMBER}x{_NUMBER}x{_NUMBER}"
_OP_KEY = re.compile(f"({_NAME})/{_SHAPE}/{_SHAPE}/s{_NUMBER}")


@dataclass(frozen=True, order=True, slots=True)
class Shape:
    """Channels, height and width of an image's feature map (the batch is part of the runtime)."""

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1:
            raise InvalidValue("shape", f"{self} has a side below 1")

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True, order=True, slots=True)
class OpKey:
    """A primitive with input shape, output shape and stride."""

    primitive: str
    input: Shape
    output: Shape
    stride: int

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.primitive):
            raise InvalidValue("primitive", f"'{self.primitive}' is not a name of lower-case letters, digits and _")
        if self.stride < 1:
            raise InvalidValue("stride", f"{self.stride} is below 1")

    def __str__(self) -> str:
        return f"{self.primitive}/{self.input}/{self.output}/s{self.stride}"

    @property
    def keeps_shape(self) -> bool:
        """Whether copies of the op can form a chain."""
        return self.input == self.output


def parse_op_key(text: str) -> OpKey:
    """Inverse of `str(op_key)`.

    Raises:
        InvalidValue: the text is not an op key.
    """
    match = _OP_KEY.fullmatch(text)
    if match is None:
        raise InvalidValue("op key", f"'{text[:100]}' does not read primitive/CxHxW/CxHxW/sN")
    numbers = [int(group) for group in match.groups()[1:]]
    key = OpKey(match.group(1), Shape(*numbers[0:3]), Shape(*numbers[3:6]), numbers[6])
    if str(key) != text:  # other digits, or zeros before them
        raise InvalidValue("op key", f"'{text[:100]}' is written {key}")
    return key
