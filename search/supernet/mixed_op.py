"""All candidates of a slot: their mixture, or the chosen op with the gradient of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from search.supernet.primitives import build_op
from search.supernet.straight_through import gated
from shared.spaces.op_key import OpKey


class MixedOp(nn.ModuleDict):
    """The ops of an edge by primitive; "none" has no op.

    Args:
        candidates: keys of the ops, all of the same output shape.
        columns: the column of alpha of each primitive.
    """

    def __init__(self, candidates: Sequence[OpKey], columns: Mapping[str, int]) -> None:
        super().__init__({key.primitive: build_op(key) for key in candidates})
        self._columns = [columns[key.primitive] for key in candidates]
        self._key = candidates[0]

    def forward(self, x: Tensor, gates: Tensor, columns: Collection[int] | None = None) -> Tensor:
        """The sum of the ops, each times its gate; "none" adds nothing.

        Args:
            x: features.
            gates: of the edge (primitives,).
            columns: of the ops to run; None runs all.
        """
        total: Tensor | None = None
        for column, op in zip(self._columns, self.values(), strict=True):
            if columns is None or column in columns:
                gate, y = gates[column], op(x)
                total = y * gate if total is None else torch.addcmul(total, y, gate)
        if total is None:
            key = self._key
            return x.new_zeros(len(x), key.output.channels, *(side // key.stride for side in x.shape[2:]))
        return total

    def straight_through(self, x: Tensor, gates: Tensor, chosen: int) -> Tensor:
        """The value of the op whose gate is 1; its weights and all gates get a gradient."""
        values = []
        for column, op in zip(self._columns, self.values(), strict=True):
            with torch.set_grad_enabled(column == chosen):
                values.append(op(x))
        return gated(gates, self._columns, values, chosen)
