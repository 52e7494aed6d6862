"""The two-path binary gates of ProxylessNAS (Cai, Zhu and Han, 2019, section 3.2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from search.alphas.path_sampling import MOST_TRIES, one_hot_with_gradient
from search.genotypes.constrained_argmax import NONE, best_choices, to_genotype
from search.process.randomness import gumbel
from shared.spaces import Space


@dataclass(frozen=True, eq=False)
class SampledPaths:
    """The paths of each slot.

    Attributes:
        sampled: which paths are computed, (slots, primitives), bool.
        active: the column of the path whose gate is 1, (slots,).
        probabilities: softmax of alpha among the sampled paths, 0 elsewhere, (slots, primitives).
    """

    sampled: Tensor
    active: Tensor
    probabilities: Tensor


def sample_paths(alphas: Tensor, space: Space, random: torch.Generator) -> SampledPaths:
    """Draw two paths of each slot from softmax(alpha), and the active path among them.

    The active paths connect input and output, unless none of `MOST_TRIES` draws does.
    """
    logits = alphas.detach()
    grouped = [slot for group in space.groups for slot in group.slots]
    nones = [space.slots[slot].primitives.index(NONE) for slot in grouped]
    for _ in range(MOST_TRIES):
        noisy = logits + gumbel(logits.shape, random)
        noisy[grouped, nones] = -torch.inf
        two = noisy.topk(2, dim=1).indices
        sampled = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, two, True)
        sampled[grouped, nones] = True
        between = (logits + gumbel(logits.shape, random)).masked_fill(~sampled, -torch.inf)
        active = best_choices(space, between)
        if space.is_connected(to_genotype(space, active)):
            break
    return SampledPaths(sampled, active, torch.softmax(alphas.masked_fill(~sampled, -torch.inf), dim=1))


def binary_gates(paths: SampledPaths) -> Tensor:
    """1 for the active path, 0 for the others, with the gradient of equation 4."""
    return one_hot_with_gradient(paths.probabilities, paths.active)


@torch.no_grad()
def keep_unsampled_probabilities(alphas: Tensor, before: Tensor, sampled: Tensor) -> None:
    """Shift the updated alphas of sampled paths: the softmax of all other paths stays."""
    masked = [values.masked_fill(~sampled, -torch.inf) for values in (alphas, before)]
    now, then = (torch.logsumexp(values, dim=1, keepdim=True) for values in masked)
    alphas -= torch.where(sampled, now - then, 0.0)
