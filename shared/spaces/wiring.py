"""How the ops of a network are joined: the one description that the ONNX builder and the torch network both execute."""

from __future__ import annotations

from dataclasses import dataclass

from shared.spaces.op_key import OpKey

INPUT = "input"


@dataclass(frozen=True, slots=True)
class Step:
    """One value of a network: an op's result, or the sum or the concatenation (over channels) of earlier values.

    Attributes:
        name: of the value; for an op also the prefix of its tensors.
        inputs: names of earlier values, `INPUT` for the image.
        key: of the op; None for a join.
        join: "sum" or "concat"; None for an op.
        slot: where the op was chosen; None for a fixed one.
        candidates: in the wiring of a supernet, the ops to choose from at the slot ("none" computes nothing and is left
            out); a network's own wiring has none.
    """

    name: str
    inputs: tuple[str, ...]
    key: OpKey | None = None
    join: str | None = None
    slot: int | None = None
    candidates: tuple[OpKey, ...] = ()


def without_dead_steps(steps: list[Step]) -> tuple[Step, ...]:
    """The steps that reach the last one. A sum or concatenation of one value is that value."""
    needed = {steps[-1].name}
    for step in reversed(steps):
        if step.name in needed:
            needed.update(step.inputs)
    return tuple(step for step in steps if step.name in needed)
