"""Which choices may stand together: the most probable valid ones, and how probable each is among the valid networks.

A slot of most spaces chooses for itself. `darts` keeps exactly two incoming edges of each node: the slots of a node are
a group (`shared.spaces.Group`), whose other edges choose "none". A network is drawn with a probability proportional to
the product of its softmax(alpha) over the slots: within a group one of the sets of kept slots comes first, then the op
of each.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from search.process.randomness import gumbel
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
        none, others, member, set_logits = _kept_sets(space, group, alpha)
        kept = torch.softmax(set_logits, dim=0) @ member
        within = torch.softmax(others, dim=1) * kept[:, None]
        is_none = torch.zeros(alpha.shape[1], dtype=alpha.dtype)
        is_none[none] = 1
        for place, slot in enumerate(group.slots):
            rows[slot] = within[place] + is_none * (1 - kept[place])
    return torch.stack(rows)


@torch.no_grad()
def draw_choices(space: Space, alpha: Tensor, random: torch.Generator) -> Tensor:
    """Columns (slots,) of a network drawn with `choice_probabilities`; it may not connect input and output."""
    noisy = alpha + gumbel(alpha.shape, random)
    columns = noisy.argmax(dim=1)
    for group in space.groups:
        none, _, member, set_logits = _kept_sets(space, group, alpha)
        kept = member[(set_logits + gumbel(set_logits.shape, random)).argmax()].bool()
        slots = torch.tensor(group.slots)
        columns[slots] = torch.where(kept, _without(noisy[slots], none).argmax(dim=1), none)
    return columns


def log_probability(space: Space, alpha: Tensor, columns: Tensor) -> Tensor:
    """Natural logarithm of the probability with which `draw_choices` draws these columns (slots,), a scalar."""
    total = alpha.gather(1, columns[:, None]).sum()
    grouped = {slot for group in space.groups for slot in group.slots}
    free = [slot for slot in range(len(alpha)) if slot not in grouped]
    total = total - torch.logsumexp(alpha[free], dim=1).sum()
    for group in space.groups:
        none, _, _, set_logits = _kept_sets(space, group, alpha)
        total = total - alpha[list(group.slots), none].sum() - torch.logsumexp(set_logits, dim=0)
    return total


def to_genotype(space: Space, columns: Tensor) -> Genotype:
    """The genotype of one column per slot."""
    return Genotype(tuple(s.primitives[i] for s, i in zip(space.slots, columns.tolist(), strict=True)))


def _kept_sets(space: Space, group: Group, alpha: Tensor) -> tuple[int, Tensor, Tensor, Tensor]:
    """The sets of slots that a group may keep.

    Returns:
        The column of "none"; the group's logits without it, (slots of the group, primitives); which slots belong to
        each set, (sets, slots of the group); each set's logit (sets,), compared with a group that keeps nothing.
    """
    none, logits = _none_column(space, group), alpha[list(group.slots)]
    others = _without(logits, none)
    worth = torch.logsumexp(others, dim=1) - logits[:, none]
    sets = torch.tensor(list(combinations(range(len(group.slots)), group.kept)))
    member = torch.zeros(len(sets), len(group.slots), dtype=alpha.dtype).scatter_(1, sets, 1.0)
    return none, others, member, member @ worth


def _none_column(space: Space, group: Group) -> int:
    return space.slots[group.slots[0]].primitives.index(NONE)


def _without(rows: Tensor, column: int) -> Tensor:
    mask = torch.zeros(rows.shape[1], dtype=torch.bool)
    mask[column] = True
    return rows.masked_fill(mask, -torch.inf)
