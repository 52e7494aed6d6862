"""The tensors of a graph: random for profiling, or given by name for deployment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidValue

Floats = NDArray[np.float32]
_SEED = 0


class Budget:
    """Bytes that a graph may still take while it is built; None: any number.

    Args:
        limit_bytes: of weights and maps together.
        copies: how often a weight is there at a time, at most.
    """

    def __init__(self, limit_bytes: int | None = None, copies: float = 1.0) -> None:
        self.limit_bytes = limit_bytes
        self.copies = copies
        self._left_bytes = math.inf if limit_bytes is None else limit_bytes

    def take(self, *shapes: Iterable[int], times: float = 1.0) -> None:
        """Count float32 tensors before they are made.

        Raises:
            InvalidValue: they are too many.
        """
        self._left_bytes -= times * 4 * sum(map(math.prod, shapes))
        if self._left_bytes < 0:
            limit_mb = (self.limit_bytes or 0) >> 20
            raise InvalidValue(
                "graph", f"its weights or maps take too much room: the limit is {limit_mb} MiB (setting max_graph_mb)"
            )

    def give_back(self, *shapes: Iterable[int]) -> None:
        """Count tensors that are there no more."""
        self._left_bytes += 4 * sum(map(math.prod, shapes))


Weights = Callable[[str], Floats]
"""Tensors by their `state_dict` name."""


def random_weights(shapes: Mapping[str, tuple[int, ...]], budget: Budget | None = None) -> Weights:
    """He-scaled convolutions and neutral batch norms: activations keep their scale.

    So no value becomes denormal. A convolution of denormal numbers can be a hundred times slower.
    """
    if budget is not None:
        budget.take(*shapes.values(), times=budget.copies)
    random = np.random.default_rng(_SEED)

    def draw(name: str) -> Floats:
        shape = shapes[name]
        if name.endswith(("bn.weight", "running_var")):
            return np.ones(shape, np.float32)
        if len(shape) == 1:
            return np.zeros(shape, np.float32)
        values = random.standard_normal(shape, np.float32)
        values *= np.float32(math.sqrt(2 / math.prod(shape[1:])))
        return values

    return draw


def given_weights(shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Floats]) -> Weights:
    """Trained tensors, checked against the shapes that the network needs."""
    for name, shape in shapes.items():
        if name not in tensors:
            raise InvalidValue("weights", f"'{name}' is missing")
        if tensors[name].shape != shape:
            raise InvalidValue("weights", f"'{name}' is {tensors[name].shape}, the network needs {shape}")
        if not np.isfinite(tensors[name]).all():
            raise InvalidValue("weights", f"'{name}' holds a value that is not finite")
    return lambda name: np.asarray(tensors[name], np.float32)
