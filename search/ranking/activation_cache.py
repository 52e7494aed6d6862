"""Paths through a supernet on a fixed batch; values that several paths share are computed once.

A value follows from its step, the op chosen there, and the values that this op reads. In the first
cell all 5,415 networks of NAS-Bench-201 together need 500 ops, not 30,000.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from search.supernet.network import join
from shared.spaces.wiring import INPUT, Step

MOST_BYTES = 256 << 20
"""Most memory for values kept for other paths."""


@dataclass(frozen=True, eq=False)
class StepResult:
    """The value of an op, and a note about its input, such as its entropy."""

    value: Tensor
    note: Tensor | None = None


RunStep = Callable[[Step, Tensor], StepResult]


class ActivationCache:
    """Evaluates networks in turn; fastest if consecutive networks share their first choices.

    Args:
        run: computes the step of an op from its input alone.
        most_bytes: for values kept for other paths.
    """

    def __init__(self, run: RunStep, images: Tensor, most_bytes: int = MOST_BYTES) -> None:
        self._run = run
        self._images = StepResult(images)
        self._most_bytes = most_bytes
        self._numbers: dict[tuple[object, ...], int] = {}
        self._kept: OrderedDict[int, StepResult] = OrderedDict()
        self._bytes = 0

    def evaluate(self, steps: Sequence[Step]) -> tuple[Tensor, list[Tensor]]:
        """The value of the last step of a network's wiring, and the notes of its steps in order."""
        slots = {step.slot for step in steps} - {None}
        numbers, choices, results = {INPUT: 0}, {INPUT: frozenset[int | None]()}, {INPUT: self._images}
        for step in steps:
            identity = (step.name, step.key, step.join, *(numbers[name] for name in step.inputs))
            number = numbers[step.name] = self._numbers.setdefault(identity, len(self._numbers) + 1)
            chosen = choices[step.name] = frozenset({step.slot} - {None}).union(*(choices[n] for n in step.inputs))
            result = self._kept.get(number) or self._compute(step, [results[name] for name in step.inputs])
            results[step.name] = result
            if chosen != slots:  # values that depend on every choice serve no other network
                self._keep(number, result)
        note = [result.note for result in results.values() if result.note is not None]
        return results[steps[-1].name].value, note

    def _compute(self, step: Step, inputs: Sequence[StepResult]) -> StepResult:
        values = [result.value for result in inputs]
        return StepResult(join(values, step.join)) if step.join else self._run(step, values[0])

    def _keep(self, number: int, result: StepResult) -> None:
        """Keep a result as the most recently used; drop the oldest beyond the memory limit."""
        if number not in self._kept:
            self._kept[number] = result
            self._bytes += result.value.nbytes
        self._kept.move_to_end(number)
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.value.nbytes
