"""What a runtime executes: kernels, not ops. Fusion depends on the neighbours, and the optimised graph tells exactly.

    nchwc.Conv/1x16x32x32/1x32x16x16/k3x3.s2x2.g1.d1x1.sum.Relu      op / input / output / details

A kernel's string form is its identity in price lists; `work` and `traffic` are what its price is guessed from before it
was ever measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import InvalidValue

_KERNEL = re.compile(r"([A-Za-z][\w.]*)/((?:\d+x)*\d+)/((?:\d+x)*\d+)(?:/([\w.:-]+))?")


@dataclass(frozen=True, order=True, slots=True)
class Kernel:
    """One node of an optimised graph, without its weights' values.

    Attributes:
        op: operator, with the short name of its domain before it ("nchwc.Conv").
        input: dimensions of its first input.
        output: dimensions of its first output.
        details: everything else that changes its time, in a fixed order, joined by dots.
        elements: numbers read and written, weights included.
    """

    op: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    details: str = ""

    def __post_init__(self) -> None:
        if min((*self.input, *self.output), default=0) < 1:
            raise InvalidValue("kernel", f"{self.op} has a side below 1")

    def __str__(self) -> str:
        sides = ("x".join(map(str, self.input)), "x".join(map(str, self.output)))
        return "/".join((self.op, *sides, *([self.details] if self.details else [])))

    @property
    def family(self) -> str:
        """Kernels that share a cost model: the op, and for convolutions kernel size, grouping and dilation."""
        if not self.is_convolution:
            return self.op
        kernel, groups, dilation = (self._detail(letter) for letter in "kgd")
        shape = "dense" if groups == "1" else "depthwise" if int(groups) == self.input[1] else "grouped"
        return f"{self.op}.{shape}.{kernel}" + (".dilated" if dilation.strip("1x") else "")

    @property
    def is_convolution(self) -> bool:
        """Whether it multiplies weights with a window."""
        return self.op.endswith("Conv")

    def multiply_adds(self) -> int:
        """Multiply-accumulate operations of one execution (convolutions and linear layers; 0 elsewhere)."""
        if self.op.endswith(("Gemm", "MatMul")):
            return math.prod(self.input) * self.output[-1]
        if not self.is_convolution:
            return 0
        return math.prod(self.output) * self._weights_per_channel()

    def elements(self) -> int:
        """Numbers read and written in one execution, weights included."""
        read_again = math.prod(self.output) if ".sum" in f".{self.details}" else 0
        return math.prod(self.input) + math.prod(self.output) + self.weights() + read_again

    def weights(self) -> int:
        """Numbers that it keeps: of convolutions and linear layers, biases apart."""
        if self.op.endswith(("Gemm", "MatMul")):
            return self.input[-1] * self.output[-1]
        return self.output[1] * self._weights_per_channel() if self.is_convolution else 0

    def _weights_per_channel(self) -> int:
        height, width = (int(side) for side in self._detail("k").split("x"))
        groups = int(self._detail("g"))
        if not groups:
            raise InvalidValue("kernel", f"{self} has no groups")
        return self.input[1] // groups * height * width

    def _detail(self, letter: str) -> str:
        for part in self.details.split("."):
            if re.fullmatch(rf"{letter}[\dx]+", part):
                return part[1:]
        raise InvalidValue("kernel", f"{self} has no detail '{letter}'")


def parse_kernel(text: str) -> Kernel:
    """Inverse of `str(kernel)`.

    Raises:
        InvalidValue: the text is not a kernel.
    """
    match = _KERNEL.fullmatch(text)
    if match is None:
        raise InvalidValue("kernel", f"'{text[:120]}' does not read OP/DIMS/DIMS[/DETAILS]")
    op, before, after, details = match.groups()
    return Kernel(op, _dimensions(before), _dimensions(after), details or "")


def _dimensions(text: str) -> tuple[int, ...]:
    return tuple(int(side) for side in text.split("x"))


MOST_GRAPHS = 10_000
MOST_KERNELS = 100_000


def check_counts(field: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Raise InvalidValue unless every graph counts at least one kernel, each of them a kernel, at least once."""
    if not 1 <= len(counts) <= MOST_GRAPHS:
        raise InvalidValue(field, f"{len(counts)} graphs are not within 1 to {MOST_GRAPHS}")
    seen: set[str] = set()
    for graph, kernels in counts.items():
        if not kernels:
            raise InvalidValue(field, f"{graph[:120]} has no kernels")
        for kernel, n in kernels.items():
            if not 1 <= n <= MOST_KERNELS:
                raise InvalidValue(field, f"{n} times {kernel[:120]} is not within 1 to {MOST_KERNELS}")
        seen.update(kernels)
    for kernel in seen:
        parsed = parse_kernel(kernel)
        _ = (parsed.family, parsed.multiply_adds(), parsed.elements())
