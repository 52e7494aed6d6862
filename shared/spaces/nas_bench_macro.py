"""NAS-Bench-Macro (Su et al., 2021): a chain of eight MobileNetV2-like layers, three candidates each.

Three stages halve the side and double the channels in their first layer. `depth` is the number of
layers in the second and third stage; the first has a layer less (2, 3 and 3 in the paper).
`channels` is the stem's width (32 in the paper), and the head's width scales with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from shared.errors import InvalidValue
from shared.spaces.chain import Chain
from shared.spaces.op_key import Shape
from shared.spaces.space import Genotype

HEAD_OVER_STEM = 40
"""1,280 channels before the classifier, 32 in the stem."""


@dataclass(frozen=True)
class NasBenchMacro(Chain):
    """A digit per layer: 0 identity, 1 expansion 3 and kernel 3, 2 expansion 6 and kernel 5."""

    name: ClassVar[str] = "nas-bench-macro"
    skip: ClassVar[str] = "identity"
    total_stride: ClassVar[int] = 8
    candidates: ClassVar[tuple[str, ...]] = ("identity", "k3_e3", "k5_e6")
    channels: int = 32
    depth: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 2:
            raise InvalidValue("depth", f"{self.depth} is below 2: the first stage has a layer less than the others")

    @property
    def head_width(self) -> int:
        return HEAD_OVER_STEM * self.channels

    def format(self, genotype: Genotype) -> str:
        return "".join(str(self.candidates.index(choice)) for choice in genotype.choices)

    def parse(self, text: str) -> Genotype:
        digits = {str(digit): name for digit, name in enumerate(self.candidates)}
        if len(text) != len(self.slots) or not set(text) <= set(digits):
            raise InvalidValue("genotype", f"'{text[:120]}' is not {len(self.slots)} digits from 0 to 2")
        return Genotype(tuple(digits[digit] for digit in text))

    def layers(self) -> Iterator[tuple[Shape, Shape, int]]:
        before = Shape(self.channels, self.resolution, self.resolution)
        for count in (self.depth - 1, self.depth, self.depth):
            after = Shape(2 * before.channels, before.height // 2, before.width // 2)
            yield before, after, 2
            for _ in range(count - 1):
                yield after, after, 1
            before = after
