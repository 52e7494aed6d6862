"""The tensors of a graph: random for profiling, or given by name for deployment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidValue

Floats = NDArray[np.float32]


class Weights(Protocol):
    """Tensors by their `state_dict` name."""

    def get(self, name: str) -> Floats: ...


class RandomWeights:
    """He-scaled convolutions and neutral batch norms: activations keep their scale.

    So no value becomes denormal. A convolution of denormal numbers can be a hundred times slower.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> None:
        self._shapes = shapes
        self._random = np.random.default_rng(seed)

    def get(self, name: str) -> Floats:
        shape = self._shapes[name]
        if name.endswith(("bn.weight", "running_var")):
            return np.ones(shape, np.float32)
        if len(shape) == 1:
            return np.zeros(shape, np.float32)
        return self._random.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / math.prod(shape[1:])))


class GivenWeights:
    """Trained tensors, checked against the shapes that the network needs."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Floats]) -> None:
        for name, shape in shapes.items():
            if name not in tensors:
                raise InvalidValue("weights", f"'{name}' is missing")
            if tensors[name].shape != shape:
                raise InvalidValue("weights", f"'{name}' is {tensors[name].shape}, the network needs {shape}")
            if not np.isfinite(tensors[name]).all():
                raise InvalidValue("weights", f"'{name}' holds a value that is not finite")
        self._tensors = tensors

    def get(self, name: str) -> Floats:
        return np.asarray(self._tensors[name], np.float32)
