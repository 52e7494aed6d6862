"""Gradients of several batches, computed side by side, averaged into one update."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def set_mean_gradients(
    parameters: Sequence[nn.Parameter], gradients: Sequence[Sequence[Tensor | None]], largest_norm: float
) -> float:
    """Average in a fixed order into `.grad` and clip; a parameter that no batch used gets None and stays as it is.

    Args:
        parameters: to set.
        gradients: per batch, in the order of the parameters.
        largest_norm: that the whole gradient may have.

    Returns:
        The norm before it was clipped; not finite if any gradient is not.
    """
    for parameter, parts in zip(parameters, zip(*gradients, strict=True), strict=True):
        there = [part for part in parts if part is not None]
        parameter.grad = sum(there[1:], there[0]) / len(parts) if there else None
    return float(nn.utils.clip_grad_norm_(parameters, largest_norm))
