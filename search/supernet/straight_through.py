"""An edge under a hard gate: the chosen op runs forwards and backwards, the others forwards only.

A straight-through gate is 1 for the chosen op and 0 for the others:

    y = sum over o of g_o y_o = y_chosen,   dL/dg_o = <dL/dy, y_o>,   dL/dy_o = g_o dL/dy

Each gate gets its gradient from its op's value, as in the written-out mixture. An op with gate 0
needs no graph: no gradient flows back through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def gated(row: Tensor, columns: Sequence[int], values: Sequence[Tensor], chosen: int) -> Tensor:
    """The value of an edge, with the gradient of all its gates.

    Args:
        row: the edge's gates (primitives,).
        columns: of the ops that ran; the rest is "none" with value and gradient 0.
        values: of these ops, all of the same shape.
        chosen: the column whose gate is 1.

    Returns:
        The chosen op's value; zeros for "none".
    """
    return _Gated.apply(row, tuple(columns), chosen, *values)  # type: ignore[no-any-return, no-untyped-call]


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, row: Tensor, columns: tuple[int, ...], chosen: int, *values: Tensor) -> Tensor:
        ctx.columns, ctx.chosen, ctx.like = columns, chosen, row
        ctx.save_for_backward(*values)
        if chosen not in columns:
            return torch.zeros_like(values[0])
        value = values[columns.index(chosen)]
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gates = torch.zeros_like(ctx.like)
        for column, value in zip(ctx.columns, ctx.saved_tensors, strict=True):
            gates[column] = (value * gradient).sum(dtype=torch.float32)
        return gates, None, None, *(gradient if column == ctx.chosen else None for column in ctx.columns)
