"""Average the gradients of several batches into an update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search.process.distributed import Ranks

EPSILON = 1e-6
"""Keeps a clipped gradient finite, as in `torch.nn.utils.clip_grad_norm_`."""
ALONE = Ranks()


def set_mean_gradients(
    parameters: Sequence[nn.Parameter],
    gradients: Sequence[Sequence[Tensor | None]],
    largest_norm: float,
    ranks: Ranks = ALONE,
) -> float:
    """Average into `.grad`, in a fixed order, and clip. A parameter that no batch used gets None.

    The given gradients hold the sums afterwards. Average and clipping are a single multiplication,
    as a step takes only a few dozen milliseconds.

    Args:
        gradients: per batch, in the order of the parameters.
        ranks: the processes; each has as many batches.

    Returns:
        The norm before clipping; not finite if any gradient is not.
    """
    own = [_sum(parameter, parts) for parameter, parts in zip(parameters, zip(*gradients, strict=True), strict=True)]
    totals = ranks.sum_gradients(own, parameters)
    for parameter, total in zip(parameters, totals, strict=True):
        parameter.grad = total
    there = [total for total in totals if total is not None]
    if not there:
        return 0.0
    count = len(gradients) * ranks.count
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(there)))) / count
    torch._foreach_mul_(there, min(1.0, largest_norm / (norm + EPSILON)) / count)
    return norm


def _sum(parameter: nn.Parameter, parts: Sequence[Tensor | None]) -> Tensor | None:
    """The sum, with the parameter's memory layout: fused optimisers read both in memory order."""
    total: Tensor | None = None
    for part in parts:
        if part is None:
            continue
        if total is not None:
            total += part
        elif part.stride() == parameter.stride():
            total = part
        else:
            total = torch.empty_like(parameter).copy_(part)
    return total
