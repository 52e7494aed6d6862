"""Networks drawn from alphas, over all choices that the groups of a space allow."""

from itertools import combinations, product

import pytest
import torch

from search.alphas.path_sampling import draw_network
from search.genotypes.constrained_argmax import choice_probabilities, draw_choices, log_probability
from search.process.randomness import generator
from shared.spaces import make_space

LOGITS = torch.Generator().manual_seed(3)


def logits_of(space) -> torch.Tensor:
    return torch.randn(len(space.slots), len(space.slots[0].primitives), generator=LOGITS, dtype=torch.float64)


def choices_of_a_group(space, group):
    """Every valid choice of a group, as columns."""
    names = space.slots[0].primitives
    ops = [column for column, name in enumerate(names) if name != "none"]
    for kept in combinations(group.slots, group.kept):
        for chosen in product(ops, repeat=group.kept):
            columns = dict(zip(kept, chosen, strict=True))
            yield [columns.get(slot, names.index("none")) for slot in group.slots]


def test_probabilities_of_all_valid_choices_sum_to_one(space):
    """Over the choices of a group, or of two slots; all others are certain."""
    alphas = logits_of(space)
    columns = draw_choices(space, alphas, generator(0, "test"))
    slots = list(space.groups[1].slots) if space.groups else [0, 1]
    if space.groups:
        ways = choices_of_a_group(space, space.groups[1])
    else:
        ways = product(range(alphas.shape[1]), repeat=2)
    certain = torch.full_like(alphas, -1e4).scatter_(1, columns[:, None], 0.0)
    certain[slots] = alphas[slots]
    total = 0.0
    for way in ways:
        columns[slots] = torch.tensor(way)
        total += float(log_probability(space, certain, columns).exp())
    assert total == pytest.approx(1, rel=1e-9)


def test_choices_are_drawn_with_their_probabilities(space):
    alphas, random = logits_of(space), generator(1, "test")
    draws = 1000
    counts = torch.zeros_like(alphas)
    for _ in range(draws):
        counts += torch.nn.functional.one_hot(draw_choices(space, alphas, random), alphas.shape[1])
    assert (counts / draws - choice_probabilities(space, alphas)).abs().max() < 0.1


def test_the_mean_score_of_drawn_networks_is_zero(space):
    """E[grad log p] = 0: REINFORCE is unbiased under any baseline."""
    alphas, random = logits_of(space).requires_grad_(), generator(2, "test")
    draws = 400
    scores = torch.stack([log_probability(space, alphas, draw_choices(space, alphas, random)) for _ in range(draws)])
    assert torch.autograd.grad(scores.mean(), alphas)[0].abs().max() < 0.1


def test_no_network_is_drawn_if_none_connects():
    cells = make_space("nas-bench-201", resolution=8, channels=4, depth=1, image_channels=1)
    alphas = torch.zeros(6, 5)
    alphas[:, cells.slots[0].primitives.index("none")] = 100
    assert draw_network(alphas, cells, generator(0, "test")) is None
    alphas[3, 1] = 200  # a skip from the input to the output
    assert draw_network(alphas, cells, generator(0, "test")) == cells.fastest()
