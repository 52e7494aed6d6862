"""Random generators by name: a step's draws follow from the seed and the step, not from history."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A fresh generator; the same seed and names always give the same numbers."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(shape, generator=generator).clamp(1e-9, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))
