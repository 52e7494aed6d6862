"""The supernet of DCA-NAS (Dutta, Kanvar and Agarwal, 2023), cheaper in three ways.

* `shares_sources`: ops of a primitive that read the same node of a cell share their weights. Each
  is computed once for the node and weighted for every edge that leaves it.
* `derives_cells`: only the first cell of a kind has weights; the others, of the same shapes, use
  them.
* `bottleneck`: candidates work on a share of the channels. 1 x 1 convolutions join the narrow part
  of the network to the rest.

It runs gates only. Networks do not inherit its weights: another supernet judges them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from search.supernet.batch_norm import BatchNorm
from search.supernet.network import execute
from search.supernet.primitives import build_op
from search.supernet.supernet import begin_near_identity
from shared.errors import InvalidValue
from shared.spaces import Space
from shared.spaces.op_key import OpKey
from shared.spaces.wiring import INPUT, Step

CHANNEL_STEP = 4
"""Narrow widths are multiples of it, for grouped convolutions and factorized reductions."""


class SlimSupernet(nn.Module):
    """All candidates of all slots, weighed by gates.

    Raises:
        InvalidValue: the bottleneck is below 1.
    """

    def __init__(
        self, space: Space, shares_sources: bool = False, derives_cells: bool = False, bottleneck: int = 1
    ) -> None:
        super().__init__()
        if bottleneck < 1:
            raise InvalidValue("bottleneck", f"{bottleneck} is not 1 or more")
        self._shares_sources, self._derives_cells, self._bottleneck = shares_sources, derives_cells, bottleneck
        self._steps = space.supernet_wiring()
        self._columns = [{name: i for i, name in enumerate(slot.primitives)} for slot in space.slots]
        self._first_reader: dict[str, Step] = {}
        self._candidates: dict[str, list[tuple[int, str]]] = {}
        self.ops, self.joints = nn.ModuleDict(), nn.ModuleDict()
        self._build()
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.momentum = 0.0
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        """Logits (batch, classes) of images under gates (slots, primitives)."""
        known: dict[tuple[str, str], Tensor] = {}

        def run(step: Step, features: Tensor) -> Tensor:
            features = self._once(known, self.joints, _joint_name(step), step, features)
            if step.slot is None:
                return self.ops[_plain(step.name)](features)  # type: ignore[no-any-return]
            (column, name), *others = self._candidates[step.name]
            total = self._once(known, self.ops, name, step, features) * gates[step.slot, column]
            for column, name in others:
                y = self._once(known, self.ops, name, step, features)
                total = torch.addcmul(total, y, gates[step.slot, column])
            return total

        return execute(self._steps, x, run)

    def _build(self) -> None:
        """Build ops and joints in the order of the wiring, with the width of each value."""
        width: dict[str, int] = {}
        for step in self._steps:
            if step.join is not None:
                widths = [width[name] for name in step.inputs]
                width[step.name] = sum(widths) if step.join == "concat" else widths[0]
                continue
            source, key = step.inputs[0], step.key or step.candidates[0]
            wanted = key.input.channels if step.key else self._narrow(key.input.channels)
            if source != INPUT and width[source] != wanted and _joint_name(step) not in self.joints:
                self.joints[_joint_name(step)] = _joint(width[source], wanted)
            width[step.name] = key.output.channels if step.key else self._narrow(key.output.channels)
            if step.key:
                self.ops[_plain(step.name)] = build_op(step.key)
            else:
                self._add_candidates(step)

    def _add_candidates(self, step: Step) -> None:
        assert step.slot is not None
        reader = self._first_reader.setdefault(step.inputs[0], step) if self._shares_sources else step
        self._candidates[step.name] = []
        for key in map(self._narrowed, step.candidates):
            name = _plain(f"{reader.slot} {key}" if self._derives_cells else f"{reader.name}{key.primitive}")
            self._candidates[step.name].append((self._columns[step.slot][key.primitive], name))
            if name not in self.ops:
                self.ops[name] = build_op(key)
                begin_near_identity(self.ops[name])

    def _once(
        self, known: dict[tuple[str, str], Tensor], modules: nn.ModuleDict, name: str, step: Step, x: Tensor
    ) -> Tensor:
        """The output of a module for a step's input, computed once; without a module the input."""
        if name not in modules:
            return x
        place = step.inputs[0], name
        if place not in known:
            known[place] = modules[name](x)
        return known[place]

    def _narrow(self, channels: int) -> int:
        rounded = round(channels / self._bottleneck / CHANNEL_STEP) * CHANNEL_STEP
        return channels if self._bottleneck == 1 else min(channels, max(CHANNEL_STEP, rounded))

    def _narrowed(self, key: OpKey) -> OpKey:
        before, after = (replace(shape, channels=self._narrow(shape.channels)) for shape in (key.input, key.output))
        return replace(key, input=before, output=after)


def _joint(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), BatchNorm(after))


def _joint_name(step: Step) -> str:
    """All candidates that read a value share a joint; fixed ops that read it share another."""
    return _plain(f"{step.inputs[0]} to {'fixed' if step.slot is None else 'slots'}")


def _plain(name: str) -> str:
    return name.replace(".", "_")
