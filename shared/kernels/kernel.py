"""What a runtime executes: kernels, not ops. Fusion depends on the neighbours, and the optimised graph tells exactly.

    nchwc.Conv/1x16x32x32,w32x16x3x3,w32/1x32x16x16/activation=Relu;strides=2x2     op / inputs / outputs / details

A value is its sides ("s" for a scalar), with "w" before them where it is a constant of the file and the element type
behind them where it is not float32 ("1x4.i64"); "_" is an input that is left out. A kernel's string form is its
identity in price lists; `multiply_adds` and `elements` are what its price is guessed from before it was ever measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import InvalidValue

_VALUE = r"(?:w?(?:(?:\d{1,12}x){0,7}\d{1,12}|s)(?:\.[a-z]\w*)?|_)"
_VALUES = rf"{_VALUE}(?:,{_VALUE})*"
_KERNEL = re.compile(rf"([A-Za-z][\w.-]*)/((?:{_VALUES})?)/({_VALUES})(?:/([\w.:;=+-]+))?", re.ASCII)
LONGEST_KERNEL = 20_000
"""Characters: a Concat of a thousand maps."""
_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True, order=True, slots=True)
class Value:
    """What a kernel reads or writes.

    Attributes:
        sides: dimensions; none of a scalar.
        element: short name of the element type; "" is float32.
        constant: whether the file holds it, as it holds weights.
    """

    sides: tuple[int, ...]
    element: str = ""
    constant: bool = False

    def __str__(self) -> str:
        sides = "x".join(map(str, self.sides)) or "s"
        return ("w" if self.constant else "") + sides + (f".{self.element}" if self.element else "")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.sides)


@dataclass(frozen=True, order=True, slots=True)
class Kernel:
    """One node of an optimised graph, without its weights' values.

    Attributes:
        op: operator, with the short name of its domain before it ("nchwc.Conv").
        inputs: what it reads, in order; None where an input is left out.
        outputs: what it writes, likewise.
        details: its attributes, sorted, joined by semicolons.
    """

    op: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    details: str = ""

    def __str__(self) -> str:
        sides = (",".join(str(value or "_") for value in values) for values in (self.inputs, self.outputs))
        return "/".join((self.op, *sides, *([self.details] if self.details else [])))

    @property
    def family(self) -> str:
        """Kernels that share a cost model: the op, and for convolutions kernel size, grouping and dilation."""
        if not self.is_convolution:
            return self.op
        weights = self._filter().sides
        groups = self._number("group", 1)
        shape = "dense" if groups == 1 else "depthwise" if weights[1] == 1 else "grouped"
        dilated = any(side != "1" for side in self._detail("dilations", "1").split("x"))
        return f"{self.op}.{shape}.k{'x'.join(map(str, weights[2:]))}" + (".dilated" if dilated else "")

    @property
    def is_convolution(self) -> bool:
        """Whether it multiplies weights with a window."""
        return self.op.endswith(("Conv", "ConvTranspose", "ConvInteger"))

    def multiply_adds(self) -> int:
        """Multiply-accumulate operations of one execution: convolutions, matrix products, recurrent layers; else 0."""
        present = [value for value in self.inputs if value is not None]
        if self.is_convolution:
            positions = self._first(self.inputs if self.op.endswith("Transpose") else self.outputs).size
            return positions * math.prod(self._filter().sides[1:])
        if self.op.endswith(("Gemm", "MatMul", "MatMulInteger")):
            rows = self._first(self.inputs).sides or (1,)
            return self._first(self.outputs).size * rows[0 if self._number("transA", 0) else -1]
        if self.op.endswith(_RECURRENT) and len(present) > 2:
            return math.prod(present[0].sides[:2]) * (present[1].size + present[2].size)
        return 0

    def elements(self) -> int:
        """Numbers read and written in one execution, weights included."""
        return sum(value.size for value in (*self.inputs, *self.outputs) if value is not None)

    def weights(self) -> int:
        """Numbers that it keeps."""
        return sum(value.size for value in self.inputs if value is not None and value.constant)

    def _filter(self) -> Value:
        """A convolution's weights: (outputs, inputs per group, *window)."""
        sides = self._first(self.inputs).sides
        for value in self.inputs[1:]:
            if value is not None and len(value.sides) == len(sides) > 2:
                return value
        raise InvalidValue("kernel", f"{str(self)[:120]} has no weights")

    def _first(self, values: tuple[Value | None, ...]) -> Value:
        if not values or values[0] is None:
            raise InvalidValue("kernel", f"{str(self)[:120]} has no first input or output")
        return values[0]

    def _number(self, name: str, default: int) -> int:
        text = self._detail(name, str(default))
        return int(text) if re.fullmatch("[0-9]{1,9}", text) else default

    def _detail(self, name: str, default: str) -> str:
        for part in self.details.split(";"):
            if part.startswith(f"{name}="):
                return part[len(name) + 1 :]
        return default


def parse_kernel(text: str) -> Kernel:
    """Inverse of `str(kernel)`.

    Raises:
        InvalidValue: the text is not a kernel.
    """
    match = _KERNEL.fullmatch(text) if len(text) <= LONGEST_KERNEL else None
    if match is None:
        raise InvalidValue("kernel", f"'{text[:120]}' does not read OP/INPUTS/OUTPUTS[/DETAILS]")
    op, inputs, outputs, details = match.groups()
    return Kernel(op, _values(inputs), _values(outputs), details or "")


def _values(text: str) -> tuple[Value | None, ...]:
    return tuple(None if value == "_" else _value(value) for value in text.split(",")) if text else ()


def _value(text: str) -> Value:
    sides, _, element = text.removeprefix("w").partition(".")
    numbers = () if sides == "s" else tuple(int(side) for side in sides.split("x"))
    return Value(numbers, element, text.startswith("w"))


MOST_GRAPHS = 10_000
MOST_KERNELS = 100_000
MOST_DISTINCT = 10_000


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
    if len(seen) > MOST_DISTINCT:
        raise InvalidValue(field, f"{len(seen)} distinct kernels are more than {MOST_DISTINCT}")
    for kernel in seen:
        parsed = parse_kernel(kernel)
        _ = (parsed.family, parsed.multiply_adds(), parsed.elements())
