"""The supernet of DCA-NAS (Dutta, Kanvar and Agarwal, 2023, section 3.3), cheaper in three ways.

* `shares_sources` ("weight sharing", equation 5): the weights w_o^i of an op belong to the node i
  that it reads. The op is computed once for the node, and weighed anew for every edge from it.
* `derives_cells` (appendix A): the first cell of a kind, normal or reduction, mixes all its ops.
  Every other cell is derived: it runs only the top-weighted ops, without gates. Each pass derives
  them anew. A derived cell has weights of its own; an op that returns finds those it had.
* `bottleneck`: 1 x 1 convolutions leave the ops a share of the channels, and widen their outputs
  again where the fixed part of the network reads them.

It runs gates only. Networks do not inherit its weights: another supernet judges them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from search.genotypes.constrained_argmax import NONE
from search.strategies.discretize import strongest
from search.supernet.batch_norm import BatchNorm
from search.supernet.network import execute
from search.supernet.primitives import build_op
from search.supernet.supernet import begin_near_identity
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space
from shared.spaces.op_key import OpKey
from shared.spaces.wiring import INPUT, Step, without_dead_steps

CHANNEL_STEP = 4
"""Narrow widths are multiples of it, for grouped convolutions and factorized reductions."""


class SlimSupernet(nn.Module):
    """The searched cells with all candidates, weighed by gates, and the derived cells.

    Raises:
        InvalidValue: the bottleneck is below 1.
    """

    def __init__(
        self, space: Space, shares_sources: bool = False, derives_cells: bool = False, bottleneck: int = 1
    ) -> None:
        super().__init__()
        if bottleneck < 1:
            raise InvalidValue("bottleneck", f"{bottleneck} is not 1 or more")
        self._space, self._shares_sources, self._bottleneck = space, shares_sources, bottleneck
        self._steps = space.supernet_wiring()
        self._derived = repeated_steps(space) if derives_cells else frozenset[str]()
        self._first_reader: dict[str, Step] = {}
        self._candidates: dict[str, dict[str, str]] = {}
        self._wiring = lru_cache(maxsize=4)(self._find_wiring)
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
            names = self._candidates[step.name]
            if step.key is not None:
                return self._once(known, self.ops, names[step.key.primitive], step, features)
            total: Tensor | None = None
            for primitive, gate in zip(self._space.slots[step.slot].primitives, gates[step.slot], strict=True):
                if primitive in names:
                    y = self._once(known, self.ops, names[primitive], step, features)
                    total = y * gate if total is None else torch.addcmul(total, y, gate)
            assert total is not None
            return total

        steps = self._wiring(top_weighted(self._space, gates)) if self._derived else self._steps
        return execute(steps, x, run)

    def _find_wiring(self, genotype: Genotype) -> tuple[Step, ...]:
        """The wiring whose derived cells have the ops of a genotype."""
        steps, lacking = [], set[str]()
        for step in self._steps:
            inputs = tuple(name for name in step.inputs if name not in lacking)
            choice = genotype.choices[step.slot] if step.slot is not None and step.name in self._derived else None
            if not inputs or choice == NONE:
                lacking.add(step.name)
                continue
            key = next((key for key in step.candidates if key.primitive == choice), step.key)
            steps.append(replace(step, inputs=inputs, key=key))
        return without_dead_steps(steps)

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
        reader = self._first_reader.setdefault(step.inputs[0], step) if self._shares_sources else step
        names = {key.primitive: _plain(f"{reader.name}{key.primitive}") for key in step.candidates}
        self._candidates[step.name] = names
        for key in map(self._narrowed, step.candidates):
            name = names[key.primitive]
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


def repeated_steps(space: Space) -> frozenset[str]:
    """Names of the steps whose slot an earlier cell has, too: those of the derived cells."""
    searched: dict[int, str] = {}
    return frozenset(
        step.name
        for step in space.supernet_wiring()
        if step.slot is not None and searched.setdefault(step.slot, step.name) != step.name
    )


def top_weighted(space: Space, gates: Tensor) -> Genotype:
    """The ops of the derived cells, by gates (slots, primitives).

    In NAS-Bench-201 "none" may win on every way from input to output. Nothing would train then, so
    the other ops compete without it.
    """
    genotype = strongest(space, gates.log())
    if space.is_connected(genotype):
        return genotype
    names = space.slots[0].primitives
    others = gates.masked_fill(torch.tensor([name == NONE for name in names]), 0.0)
    return strongest(space, others.log())


def _joint(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), BatchNorm(after))


def _joint_name(step: Step) -> str:
    """All candidates that read a value share a joint; fixed ops that read it share another."""
    return _plain(f"{step.inputs[0]} to {'fixed' if step.slot is None else 'slots'}")


def _plain(name: str) -> str:
    return name.replace(".", "_")
