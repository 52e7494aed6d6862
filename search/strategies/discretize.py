"""The network that DARTS derives from alphas (Liu, Simonyan and Yang, 2019, section 2.4).

Each edge takes its most probable op. A node with a fixed number of edges (`darts`) keeps the edges
whose best op other than "none" is most probable. An edge of NAS-Bench-201 may choose "none" (Dong
and Yang, 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from search.genotypes.constrained_argmax import best_choices, none_column, to_genotype
from search.strategies.context import Bench, Outcome
from shared.spaces import Genotype, Space


def propose_strongest(bench: Bench, alphas: Tensor, training_images: int) -> Outcome:
    """The outcome of a method without budgets: the strongest network, or a note."""
    genotype = strongest(bench.space, alphas)
    if bench.space.is_connected(genotype):
        return Outcome((bench.propose(genotype),), training_images)
    note = f"{bench.space.format(genotype)} does not connect input and output"
    return Outcome((), training_images, notes=(note,))


@torch.no_grad()
def strongest(space: Space, alphas: Tensor) -> Genotype:
    """The genotype of the largest alphas (slots, primitives). It may be disconnected."""
    strengths = torch.softmax(alphas, dim=1)
    for group in space.groups:  # edges compete by their ops alone
        strengths[list(group.slots), none_column(space, group)] = 0
    return to_genotype(space, best_choices(space, strengths))
