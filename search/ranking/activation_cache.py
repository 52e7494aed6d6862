"""Paths through a supernet on one fixed batch, with what several paths have in common computed once.

A value of a network follows from its step, the op chosen there, and the values that this op reads. The first cell of
NAS-Bench-201's networks has few distinct values: all 5,415 networks together need 500 ops there, not 30,000.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.spaces.wiring import INPUT, Step

MOST_BYTES = 256 << 20
"""That values kept for other paths may take."""


@dataclass(frozen=True, eq=False)
class StepResult:
    """What an op returned, and what was noticed on the way (by an untrained network: how its input varies)."""

    value: Tensor
    noticed: Tensor | None = None


RunStep = Callable[[Step, Tensor], StepResult]


class SharedPaths:
    """Evaluates networks one after another; fastest where neighbours have their first choices in common.

    Args:
        run: computes the step of an op from its input; must depend on nothing else.
        images: the batch.
        most_bytes: that values kept for other paths may take.
    """

    def __init__(self, run: RunStep, images: Tensor, most_bytes: int = MOST_BYTES) -> None:
        self._run = run
        self._images = StepResult(images)
        self._most_bytes = most_bytes
        self._numbers: dict[tuple[object, ...], int] = {}
        self._kept: OrderedDict[int, StepResult] = OrderedDict()
        self._bytes = 0

    def evaluate(self, steps: Sequence[Step]) -> tuple[Tensor, list[Tensor]]:
        """The value of the last step of a network's wiring, and all that was noticed, in the order of the steps."""
        slots = {step.slot for step in steps} - {None}
        numbers, choices, results = {INPUT: 0}, {INPUT: frozenset[int | None]()}, {INPUT: self._images}
        for step in steps:
            identity = (step.name, step.key, step.join, *(numbers[name] for name in step.inputs))
            number = numbers[step.name] = self._numbers.setdefault(identity, len(self._numbers) + 1)
            chosen = choices[step.name] = frozenset({step.slot} - {None}).union(*(choices[n] for n in step.inputs))
            result = self._kept.get(number) or self._compute(step, [results[name] for name in step.inputs])
            results[step.name] = result
            if chosen != slots:  # what depends on every choice is no other network's
                self._keep(number, result)
        noticed = [one.noticed for one in results.values() if one.noticed is not None]
        return results[steps[-1].name].value, noticed

    def _compute(self, step: Step, inputs: Sequence[StepResult]) -> StepResult:
        values = [one.value for one in inputs]
        if step.join is None:
            return self._run(step, values[0])
        if step.join == "concat":
            return StepResult(torch.cat(values, dim=1))
        total = values[0]
        for other in values[1:]:
            total = total + other
        return StepResult(total)

    def _keep(self, number: int, result: StepResult) -> None:
        """Keep a result as the most recently used one, and let the oldest go where there are too many bytes."""
        if number not in self._kept:
            self._kept[number] = result
            self._bytes += result.value.nbytes
        self._kept.move_to_end(number)
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.value.nbytes
