"""The most probable valid choices, and the probability of each choice among the valid networks.

In most spaces each slot chooses independently. `darts` keeps exactly two incoming edges of each
node: the slots of a node form a group (`shared.spaces.Group`), and its other edges choose "none".
The probability of a network is proportional to the product of softmax(alpha) over its choices.
Within a group, a set of kept slots is drawn first, then the op of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search.process.randomness import gumbel
from shared.spaces import Genotype, Group, Space

NONE = "none"


def best_choices(space: Space, scores: Tensor) -> Tensor:
    """Columns (slots,) with the largest sum of scores (slots, primitives), given the groups.

    The network need not connect input and output. Exact: the worth of an edge is its best score
    less that of "none", and a group keeps the edges of largest worth.
    """
    columns = scores.argmax(dim=1)
    for group in space.groups:
        slots, none = torch.tensor(group.slots), none_column(space, group)
        rows = scores[slots]
        best, column = _without(rows, none).max(dim=1)
        order = torch.sort(best - rows[:, none], descending=True, stable=True).indices
        columns[slots] = none
        columns[slots[order[: group.kept]]] = column[order[: group.kept]]
    return columns


def choice_probabilities(space: Space, alpha: Tensor) -> Tensor:
    """Probability of each choice (slots, primitives) under softmax(alpha), given the groups.

    Disconnected networks count.
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
    """Draw columns (slots,) with `choice_probabilities`. They may not connect input and output."""
    noisy = alpha + gumbel(alpha.shape, random)
    columns = noisy.argmax(dim=1)
    for group in space.groups:
        none, _, member, set_logits = _kept_sets(space, group, alpha)
        kept = member[(set_logits + gumbel(set_logits.shape, random)).argmax()].bool()
        slots = torch.tensor(group.slots)
        columns[slots] = torch.where(kept, _without(noisy[slots], none).argmax(dim=1), none)
    return columns


def log_probability(space: Space, alpha: Tensor, columns: Tensor) -> Tensor:
    """Log probability that `draw_choices` draws these columns (slots,), a scalar."""
    total = alpha.gather(1, columns[:, None]).sum()
    grouped = {slot for group in space.groups for slot in group.slots}
    free = [slot for slot in range(len(alpha)) if slot not in grouped]
    total = total - torch.logsumexp(alpha[free], dim=1).sum()
    for group in space.groups:
        none, _, _, set_logits = _kept_sets(space, group, alpha)
        total = total - alpha[list(group.slots), none].sum() - torch.logsumexp(set_logits, dim=0)
    return total


def to_genotype(space: Space, columns: Tensor | npt.NDArray[np.int64] | Sequence[int]) -> Genotype:
    """The genotype of a column of alpha per slot."""
    indices = columns if isinstance(columns, Sequence) else columns.tolist()
    return Genotype(tuple(s.primitives[i] for s, i in zip(space.slots, indices, strict=True)))


def _kept_sets(space: Space, group: Group, alpha: Tensor) -> tuple[int, Tensor, Tensor, Tensor]:
    """The sets of slots that a group may keep.

    Returns:
        The column of "none"; the group's logits without it, (slots, primitives); the slots of
        each set, (sets, group's slots); the logit of each set (sets,) against keeping nothing.
    """
    none, logits = none_column(space, group), alpha[list(group.slots)]
    others = _without(logits, none)
    worth = torch.logsumexp(others, dim=1) - logits[:, none]
    sets = torch.tensor(list(combinations(range(len(group.slots)), group.kept)))
    member = torch.zeros(len(sets), len(group.slots), dtype=alpha.dtype).scatter_(1, sets, 1.0)
    return none, others, member, member @ worth


def none_column(space: Space, group: Group) -> int:
    """The column of "none" in a group's slots."""
    return space.slots[group.slots[0]].primitives.index(NONE)


def _without(rows: Tensor, column: int) -> Tensor:
    mask = torch.zeros(rows.shape[1], dtype=torch.bool)
    mask[column] = True
    return rows.masked_fill(mask, -torch.inf)
