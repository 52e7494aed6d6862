"""The network that DARTS derives from alphas (Liu, Simonyan and Yang, 2019, section 2.4).

Each edge takes its most probable op. A node with a fixed number of edges (`darts`) keeps the edges
whose best op other than "none" is most probable. An edge of NAS-Bench-201 may choose "none" (Dong
and Yang, 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from search.genotypes.constrained_argmax import NONE, to_genotype
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
    columns = strengths.argmax(dim=1)
    for group in space.groups:
        none = space.slots[group.slots[0]].primitives.index(NONE)
        slots = torch.tensor(group.slots)
        ops = strengths[slots].clone()
        ops[:, none] = -1
        strength, column = ops.max(dim=1)
        kept = torch.sort(strength, descending=True, stable=True).indices[: group.kept]
        columns[slots] = none
        columns[slots[kept]] = column[kept]
    return to_genotype(space, columns)
