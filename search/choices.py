"""Which choices may stand together: the most probable valid ones, and how probable each is among the valid networks.

A slot of most spaces chooses for itself. `darts` keeps exactly two incoming edges of each node: the slots of a node are
a group (`shared.spaces.Group`), whose other edges choose "none".
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from shared.spaces import Genotype, Group, Space

NONE = "none"


def best_choices(space: Space, scores: Tensor) -> Tensor:
    """Columns of the choices with the largest sum of scores that the space's groups allow, (slots,).

    Exact: an edge is worth its best op less its "none", and a group keeps those that are worth most.

    Args:
        space: whether the network is connected is not looked at.
        scores: (slots, primitives).
    """
    columns = scores.argmax(dim=1)
    for group in space.groups:
        slots, none = torch.tensor(group.slots), _none_column(space, group)
        rows = scores[slots]
        best, column = _without(rows, none).max(dim=1)
        order = torch.sort(best - rows[:, none], descending=True, stable=True).indices
        columns[slots] = none
        columns[slots[order[: group.kept]]] = column[order[: group.kept]]
    return columns


def choice_probabilities(space: Space, alpha: Tensor) -> Tensor:
    """Probability of each choice in a network drawn with softmax(alpha), given what the groups allow.

    Args:
        space: its groups condition the draw; whether the network is connected does not.
        alpha: logits (slots, primitives); log-probabilities will do.
    """
    rows = list(torch.softmax(alpha, dim=1))
    for group in space.groups:
        slots, none = torch.tensor(group.slots), _none_column(space, group)
        logits = alpha[slots]
        others = _without(logits, none)
        worth = torch.logsumexp(others, dim=1) - logits[:, none]
        kept_sets = torch.tensor(list(combinations(range(len(slots)), group.kept)))
        member = torch.zeros(len(kept_sets), len(slots), dtype=alpha.dtype).scatter_(1, kept_sets, 1.0)
        kept = torch.softmax(member @ worth, dim=0) @ member
        within = torch.softmax(others, dim=1) * kept[:, None]
        is_none = torch.zeros(alpha.shape[1], dtype=alpha.dtype)
        is_none[none] = 1
        for place, slot in enumerate(group.slots):
            rows[slot] = within[place] + is_none * (1 - kept[place])
    return torch.stack(rows)


def to_genotype(space: Space, columns: Tensor) -> Genotype:
    """The genotype of one column per slot."""
    return Genotype(tuple(s.primitives[i] for s, i in zip(space.slots, columns.tolist(), strict=True)))


def _none_column(space: Space, group: Group) -> int:
    return space.slots[group.slots[0]].primitives.index(NONE)


def _without(rows: Tensor, column: int) -> Tensor:
    mask = torch.zeros(rows.shape[1], dtype=torch.bool)
    mask[column] = True
    return rows.masked_fill(mask, -torch.inf)
