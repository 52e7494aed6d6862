"""How the ops of a network are joined, for the ONNX builder and the torch network."""

from __future__ import annotations

from dataclasses import dataclass

from shared.spaces.op_key import OpKey

INPUT = "input"


@dataclass(frozen=True, slots=True)
class Step:
    """A value of a network: the result of an op, or a join of earlier values.

    Attributes:
        name: of the value; for an op also the prefix of its tensors.
        inputs: names of earlier values, `INPUT` for the image.
        key: of the op; None for a join.
        join: "sum" or "concat"; None for an op.
        slot: of the op; None for a fixed op.
        candidates: in the wiring of a supernet, the ops of the slot without "none"; else empty.
    """

    name: str
    inputs: tuple[str, ...]
    key: OpKey | None = None
    join: str | None = None
    slot: int | None = None
    candidates: tuple[OpKey, ...] = ()


def without_dead_steps(steps: list[Step]) -> tuple[Step, ...]:
    """The steps that reach the last step."""
    needed = {steps[-1].name}
    for step in reversed(steps):
        if step.name in needed:
            needed.update(step.inputs)
    return tuple(step for step in steps if step.name in needed)
