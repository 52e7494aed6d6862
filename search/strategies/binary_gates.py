"""The two-path binary gates of ProxylessNAS (Cai, Zhu and Han, 2019, section 3.2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from search.alphas.path_sampling import MOST_TRIES
from search.genotypes.constrained_argmax import NONE, best_choices, to_genotype
from search.process.randomness import gumbel
from shared.spaces import Space


@dataclass(frozen=True, eq=False)
class SampledPaths:
    """Of each slot.

    Attributes:
        sampled: which paths are computed, (slots, primitives), bool.
        active: the column of the one whose gate is 1, (slots,).
        probabilities: softmax of alpha among the sampled ones, 0 elsewhere, (slots, primitives).
    """

    sampled: Tensor
    active: Tensor
    probabilities: Tensor


def sample_paths(alphas: Tensor, space: Space, random: torch.Generator) -> SampledPaths:
    """Two paths of each slot, drawn from softmax(alpha) without putting back, and one of them by its share of the two.

    The active ones connect input and output unless no draw of many does.
    """
    logits = alphas.detach()
    nones = [space.slots[group.slots[0]].primitives.index(NONE) for group in space.groups for _ in group.slots]
    grouped = [slot for group in space.groups for slot in group.slots]
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
    """1 for the active path, 0 for the others; the gradient is that of their probabilities (equation 4)."""
    hard = torch.zeros_like(paths.probabilities).scatter_(1, paths.active[:, None], 1.0)
    return hard + (paths.probabilities - paths.probabilities.detach())


@torch.no_grad()
def keep_unsampled_probabilities(alphas: Tensor, before: Tensor, sampled: Tensor) -> None:
    """Shift the updated alphas of the sampled paths so that what softmax gives to all the others stays as it was."""
    masked = [values.masked_fill(~sampled, -torch.inf) for values in (alphas, before)]
    now, then = (torch.logsumexp(values, dim=1, keepdim=True) for values in masked)
    alphas -= torch.where(sampled, now - then, 0.0)
