import json
import random

import pytest

from search.compare.comparison_figures import Unit, hypervolume, judge, proposed, summarise
from search.family.family import Member
from search.strategies import Outcome, Proposal
from shared.spaces import Genotype


def member(genotype: Genotype, upper_ms: float, rank: float) -> Member:
    return Member(genotype, 0.9 * upper_ms, upper_ms, 1000, 10_000, nll=1.0, expressivity=1.0, rank=rank, accuracy=50.0)


def unit(strategy: str, *proposals: Proposal, seed: int = 0, notes: tuple[str, ...] = ()) -> Unit:
    return Unit(strategy, seed, "setting", Outcome(proposals, 6400, 10, notes), 3.2)


def test_hypervolume_is_the_share_of_random_points_that_are_dominated():
    draws = random.Random(0)
    points = [(draws.random(), draws.random()) for _ in range(6)]
    probes = [(draws.random(), draws.random()) for _ in range(40_000)]
    share = sum(any(x <= px and y >= py for x, y in points) for px, py in probes) / len(probes)
    assert hypervolume(points) == pytest.approx(share, abs=0.01)
    assert hypervolume([]) == 0
    assert hypervolume([(0, 1)]) == 1
    assert hypervolume([(0.5, 0.5), (0.7, 0.4)]) == hypervolume([(0.5, 0.5)]) == 0.25


a, b, c = (Genotype((name,)) for name in "abc")
RANKED = {a: member(a, 1.0, 3.0), b: member(b, 2.0, 2.0), c: member(c, 4.0, 1.0)}
BUDGETS_MS, RANGE_MS = (1.0, 3.0), (1.0, 5.0)


def test_a_family_is_measured_against_every_budget():
    found = judge(
        [unit("x", Proposal(a, None, False, 2.0), Proposal(c, None, False, 1.0))], RANKED, BUDGETS_MS, RANGE_MS
    )[0]
    assert [network.score for network in found.networks] == [0.0, 1.0]
    assert found.hypervolume == pytest.approx(0.25 * 1.0)  # c's bound is at 3/4 of the range; a scores 0
    assert found.distinct == 2
    assert found.budgets_met == 1.0
    assert found.derived_met is None
    assert found.under_budget == 0.0
    assert found.images_per_s == 2000.0


def test_a_network_of_a_budget_counts_for_that_budget_alone():
    meets, misses = Proposal(b, 3.0), Proposal(b, 1.0)
    found = judge(
        [unit("x", meets), unit("y", misses), unit("z", misses, Proposal(a, 1.0, False))], RANKED, BUDGETS_MS, RANGE_MS
    )
    assert [figures.budgets_met for figures in found] == [0.5, 0.0, 0.5]
    assert [figures.derived_met for figures in found] == [0.5, 0.0, 0.0]
    assert found[0].under_budget == pytest.approx(0.5 * 0.5)


def test_a_strategy_without_a_connected_network_has_nothing_and_says_why():
    found = judge([unit("darts", notes=("does not connect",))], RANKED, BUDGETS_MS, RANGE_MS)[0]
    assert (found.hypervolume, found.distinct, found.budgets_met, found.under_budget) == (0, 0, 0, 0)
    assert found.notes == ("does not connect",)
    assert found.derived_met == 0  # it derives, and this seed counts


def test_networks_of_one_bound_fill_the_whole_range():
    assert judge([unit("x", Proposal(c))], RANKED, BUDGETS_MS, (4.0, 4.0))[0].hypervolume == 1


def test_what_a_strategy_that_derives_decoded_alone_is_not_what_it_derived():
    (found,) = judge([unit("fbnet", Proposal(a, 1.0, False))], RANKED, BUDGETS_MS, RANGE_MS)
    assert (found.budgets_met, found.derived_met) == (0.5, 0)


def test_networks_are_ranked_in_an_order_that_the_units_do_not_change():
    units = [unit("x", Proposal(c), Proposal(a)), unit("y", Proposal(b), Proposal(c))]
    assert proposed(units) == proposed(units[::-1]) == [a, b, c]


def test_a_single_seed_has_no_deviation():
    assert summarise([2.0]).deviation is None
    assert summarise([1.0, 3.0]).mean == 2.0
    assert json.dumps(summarise([1.0, 3.0]).deviation) == "1.4142135623730951"
