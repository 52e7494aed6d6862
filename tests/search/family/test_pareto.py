from itertools import combinations

import numpy as np
import pytest

from search.family.family import Member
from search.family.pareto import expected_losses, select_members, thin
from shared.spaces import Genotype


def area(points):
    """Area of the staircase below (10, 10), by a grid of cells: slow and independent of the tested code."""
    xs, ys = ((np.arange(400) + 0.5) / 40 for _ in range(2))
    covered = np.zeros((400, 400), dtype=bool)
    for x, y in points:
        covered |= (xs[:, None] >= x) & (ys[None, :] >= y)
    return covered.mean()


def test_thinning_drops_the_point_of_least_area_first():
    draws = np.random.default_rng(0)
    x, y = np.sort(draws.uniform(0, 10, 9)), -np.sort(-draws.uniform(0, 10, 9))
    kept = list(range(9))
    for most in range(8, 1, -1):
        inner = [[i for i in kept if i != left_out] for left_out in kept[1:-1]]
        best = max(inner, key=lambda some: area([(x[i], y[i]) for i in some]))
        kept = thin(x.tolist(), y.tolist(), most)
        assert kept == best


def test_greedy_thinning_is_close_to_the_best_choice():
    draws = np.random.default_rng(1)
    x, y = np.sort(draws.uniform(0, 10, 10)), -np.sort(-draws.uniform(0, 10, 10))
    best = max(area([(x[i], y[i]) for i in (0, *some, 9)]) for some in combinations(range(1, 9), 3))
    found = area([(x[i], y[i]) for i in thin(x.tolist(), y.tolist(), 5)])
    assert found > 0.97 * best


def test_small_front_stays_whole_and_both_ends_always_stay():
    assert thin([1.0, 2.0], [5.0, 4.0], 24) == [0, 1]
    assert thin([1.0, 2.0, 3.0], [5.0, 4.9, 1.0], 2) == [0, 2]
    assert thin([1.0, 2.0, 3.0], [5.0, 4.9, 1.0], 1) == [0]


@pytest.mark.parametrize("most", [2, 5, 12])
def test_members_cluster_where_the_rank_falls(most):
    ranks = [600.0, 300.0, 200.0, 150.0, 130.0, 120.0, *np.linspace(119.0, 110.0, 34)]
    front = [
        Member(Genotype((str(i),)), 1.0 + i, 1.1 + i, 10, 10, nll=1.0, expressivity=1.0, rank=rank, accuracy=50.0)
        for i, rank in enumerate(ranks)
    ]
    names = [int(member.genotype.choices[0]) for member in select_members(front, most)]
    assert (names[0], names[-1], len(names)) == (0, 39, most)
    assert sum(name <= 5 for name in names) >= min(most - 1, 4)


def test_networks_far_apart_in_likelihood_stay_where_their_ranks_are_close():
    """Ranks of the fastest networks, one to five apart; the first improve most (accuracies 45, 65, 70, 81 percent)."""
    nll = [*np.linspace(3.0, 1.5, 5), *np.linspace(1.4, 1.39, 25)]
    ranks = [6561.0, 6560.0, 6558.0, 6557.0, 6552.0, *np.linspace(5000.0, 1.0, 25)]
    front = [
        Member(Genotype((str(i),)), 1.0 + 0.2 * i, 9.9, 10, 10, loss, expressivity=0.0, rank=rank, accuracy=50.0)
        for i, (loss, rank) in enumerate(zip(nll, ranks, strict=True))
    ]
    names = [int(member.genotype.choices[0]) for member in select_members(front, 16)]
    assert set(range(5)) <= set(names)
    assert {29} < set(names)


def test_losses_fall_along_a_front_even_where_likelihoods_rise_or_diverged():
    front = [
        Member(Genotype((str(i),)), 1.0 + i, 1.1 + i, 10, 10, loss, expressivity=0.0, rank=rank, accuracy=50.0)
        for i, (loss, rank) in enumerate([(np.nan, 9.0), (2.0, 8.0), (1.0, 4.0), (1.2, 3.0), (0.9, 1.0)])
    ]
    losses = expected_losses(front, worst_rank=9.0)
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == len(front)
    assert (losses[0], losses[-1]) == (2.0, 0.0)
    assert expected_losses(front[:1], worst_rank=9.0) == [0.0]


def test_losses_tell_the_few_worst_networks_apart_and_may_be_given():
    """Ten of 6,000 networks are worse than the second: that is a step as large as from there to a tenth of all."""
    ranks = (6000.0, 5990.0, 5900.0, 1.0)
    front = [
        Member(Genotype((str(i),)), 1.0 + i, 1.1 + i, 10, 10, 1.0, expressivity=0.0, rank=rank, accuracy=50.0)
        for i, rank in enumerate(ranks)
    ]
    first, second, third, last = expected_losses(front, worst_rank=6000.0)
    assert first - second == pytest.approx(np.log(11) / np.log(6000))
    assert first - second > second - third > 0.25
    assert last == 0.0
    by_rank = select_members(front, most=3, losses=lambda some: [member.rank for member in some])
    assert [member.rank for member in by_rank] == [6000.0, 5900.0, 1.0]
    assert [member.rank for member in select_members(front, most=3)] == [6000.0, 5990.0, 1.0]
