"""Sampling for training: fair paths, paths drawn from alpha, gates with a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from search.alphas.condition import space_primitives
from search.genotypes.constrained_argmax import NONE, best_choices, draw_choices, to_genotype
from search.process.randomness import generator, gumbel
from shared.spaces import Genotype, Own, Space
from shared.spaces.primitives import parameter_count

MOST_TRIES = 200
"""After so many disconnected draws the fastest network is taken."""


class UniformSampler:
    """Connected paths of uniformly drawn primitives (SPOS: Guo et al., 2020)."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._alpha = torch.zeros(len(space.slots), len(space_primitives(space)))

    def path(self, index: int) -> Genotype:
        return sample_path(self._alpha, self._space, generator(self._seed, "uniform path", index))


class FairSampler:
    """Connected paths in cycles: every primitive of every slot once (FairNAS: Chu et al., 2021),
    then the largest network (the sandwich rule of Yu et al., 2020). Path i follows from the seed.
    Which network of a user's own model is the largest, no space knows: it has none in its cycles.

    Slots of a group take turns: each path keeps some of them at random, with ops other than "none".
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        # By slot: that of a user's own model has other candidates in the same columns.
        self._primitives = [
            [name for name in slot.primitives if not space.groups or name != NONE] for slot in space.slots
        ]
        self.largest = largest_genotype(space)
        self._cycle = lru_cache(maxsize=4)(self._draw_cycle)

    @property
    def cycle_length(self) -> int:
        return len(self._primitives[0]) + (not isinstance(self._space, Own))

    def path(self, index: int) -> Genotype:
        cycle, position = divmod(index, self.cycle_length)
        return self._cycle(cycle)[position]

    def _draw_cycle(self, cycle: int) -> tuple[Genotype, ...]:
        random = generator(self._seed, "fair paths", cycle)
        count = len(self._primitives[0])
        while True:
            orders = [_shuffled(names, random) for names in self._primitives]
            kept = [self._kept(position, random) for position in range(count)]
            paths = [
                Genotype(tuple(order[i] if s in kept[i] else NONE for s, order in enumerate(orders)))
                for i in range(count)
            ]
            if all(map(self._space.is_connected, paths)):
                return (*paths, self.largest)

    def _kept(self, position: int, random: torch.Generator) -> set[int]:
        """The slots that a path runs: all free slots, and random slots of each group."""
        kept = set(range(len(self._space.slots)))
        for group in self._space.groups:
            order = torch.randperm(len(group.slots), generator=random).tolist()
            kept -= {group.slots[place] for place in order[group.kept :]}
        return kept


def _shuffled(names: Sequence[str], random: torch.Generator) -> list[str]:
    """The names in random order. Of names in several columns others are repeated in every cycle."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) < len(names):
        order = torch.randperm(len(distinct), generator=random).tolist()
        names = [distinct[order[column % len(order)]] for column in range(len(names))]
    return [names[column] for column in torch.randperm(len(names), generator=random).tolist()]


SAMPLER_BUILDERS: Mapping[str, type[FairSampler] | type[UniformSampler]] = MappingProxyType(
    {"fair": FairSampler, "uniform": UniformSampler}
)
"""By their names on the command line. Several threads may ask for the same or other paths."""


def with_floor(alpha: Tensor, share: float) -> Tensor:
    """Logits (slots, primitives) of (1 - share) softmax(alpha) + share / primitives."""
    if not share:
        return alpha
    return torch.log((1 - share) * torch.softmax(alpha, dim=1) + share / alpha.shape[1])


def largest_genotype(space: Space) -> Genotype:
    """In each slot the primitive with the most parameters."""
    counts = [
        [sum(map(parameter_count, space.slot_ops(i, p))) for p in s.primitives] for i, s in enumerate(space.slots)
    ]
    return to_genotype(space, best_choices(space, torch.tensor(counts, dtype=torch.float64)))


@torch.no_grad()
def sample_path(alpha: Tensor, space: Space, random: torch.Generator) -> Genotype:
    """Draw a connected network with softmax(alpha) (the Gumbel-max trick)."""
    return _genotype(space, best_choices(space, _connected_noise(alpha, space, random))) or space.fastest()


def draw_network(alpha: Tensor, space: Space, random: torch.Generator) -> Genotype | None:
    """Draw with softmax(alpha), given a valid network; None if no draw connects."""
    for _ in range(MOST_TRIES):
        genotype = _genotype(space, draw_choices(space, alpha, random))
        if genotype is not None:
            return genotype
    return None


def straight_through_gates(alpha: Tensor, space: Space, temperature: float, random: torch.Generator) -> Tensor:
    """Gates (slots, primitives): one-hot rows with the gradient of the soft sample.

    In groups of slots, the chosen ops are the best that the group allows for the same noise.
    """
    noisy = alpha + (_connected_noise(alpha.detach(), space, random) - alpha.detach())
    soft = torch.softmax(noisy / temperature, dim=1)
    return one_hot_with_gradient(soft, best_choices(space, noisy.detach()))


def one_hot_with_gradient(soft: Tensor, columns: Tensor) -> Tensor:
    """One-hot rows at columns (rows,), with the gradient of soft (rows, primitives)."""
    hard = torch.zeros_like(soft).scatter_(1, columns[:, None], 1.0)
    return hard + (soft - soft.detach())


def _connected_noise(alpha: Tensor, space: Space, random: torch.Generator) -> Tensor:
    """alpha plus Gumbel noise, drawn until its argmax connects input and output."""
    for _ in range(MOST_TRIES):
        noisy = alpha + gumbel(alpha.shape, random)
        if _genotype(space, best_choices(space, noisy)) is not None:
            return noisy
    return noisy


def _genotype(space: Space, columns: Tensor) -> Genotype | None:
    genotype = to_genotype(space, columns)
    return genotype if space.is_connected(genotype) else None
