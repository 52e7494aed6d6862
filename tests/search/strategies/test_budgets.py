import random

import numpy as np
import pytest
import torch

from search.latency.slot_costs import RESOURCES, latency_costs
from search.strategies.budgets import Attempt, best_attempt, proposals_for, reach_budget, trade_off_series
from search.strategies.dca_nas.look_up_graph import LookUpGraph
from shared.errors import InvalidValue
from shared.spaces import Genotype


def attempt(upper_ms: float) -> Attempt:
    return Attempt(torch.zeros(1, 1), Genotype(("none",)) if upper_ms else None, upper_ms)


def test_a_budget_is_reached_in_as_many_searches_as_there_are_rounds():
    series = trade_off_series(0.1, 10.0, 4)
    assert len(series) == 15
    assert series[0] == pytest.approx(0.1)
    assert series[-1] == pytest.approx(10.0)
    assert trade_off_series(0.1, 10.0, 1) == [pytest.approx(series[7])]
    visited = []

    def search(weight: float) -> Attempt:
        visited.append(weight)
        return attempt(1 / weight)

    for budget_ms in np.geomspace(0.11, 9, 7):
        visited.clear()
        best = best_attempt(budget_ms, reach_budget(budget_ms, series, search))
        assert len(visited) <= 4
        assert best.upper_ms == max(1 / weight for weight in series if 1 / weight <= budget_ms)


def test_a_budget_that_no_trade_off_meets_ends_at_the_largest_weight_on_latency():
    series = trade_off_series(0.1, 10.0, 3)
    tried = reach_budget(0.01, series, lambda weight: attempt(1 / weight))
    assert best_attempt(0.01, tried).upper_ms == pytest.approx(1 / series[-1])


def test_a_search_that_derives_no_network_is_asked_for_more_latency_and_never_taken():
    series = trade_off_series(0.1, 10.0, 3)
    tried = reach_budget(2.0, series, lambda weight: attempt(0 if weight > 0.9 else 1 / weight))
    assert [result.genotype is None for result in tried] == [True, False, False]
    only = [result for result in tried if result.genotype is None]
    assert best_attempt(2.0, only).genotype is None


def test_each_budget_gets_the_derived_network_and_a_network_within_the_bound(make_bench, space, tmp_path):
    bench = make_bench(space, tmp_path)
    slow = space.sample(random.Random(0))
    upper_ms = float(bench.model.upper_ms([slow], bench.config.confidence)[0])
    alphas = torch.randn(len(space.slots), len(space.slots[0].primitives), generator=torch.Generator().manual_seed(0))
    budget_ms = 1.01 * bench.decoder.smallest_ms
    derived, under = proposals_for(bench, budget_ms, Attempt(alphas, slow, upper_ms))
    assert (derived.derived, under.derived) == (True, False)
    assert derived.genotype == space.canonical(slow)
    assert bench.model.upper_ms([under.genotype], bench.config.confidence)[0] <= budget_ms
    assert [proposal.derived for proposal in proposals_for(bench, budget_ms, Attempt(alphas, None, 0.0))] == [False]


def test_invalid_series_and_graphs_are_refused():
    for wrong in ((0.0, 1.0, 3), (2.0, 1.0, 3), (0.1, 1.0, 0)):
        with pytest.raises(InvalidValue):
            trade_off_series(*wrong)
    for given, derived in (((1.0,), (1.0,)), ((1.0, 2.0), (1.0,)), ((2.0, 1.0), (1.0, 2.0))):
        with pytest.raises(InvalidValue, match="look-up graph"):
            LookUpGraph(given, derived)


def test_a_larger_budget_never_gets_a_smaller_search_time_budget():
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(2, 7))
        given = tuple(np.cumsum(rng.uniform(0.1, 1, count)).tolist())
        graph = LookUpGraph(given, tuple(rng.uniform(1, 2, count).tolist()))
        asked = [graph.search_time_budget(budget_ms) for budget_ms in np.linspace(0.8, 2.2, 60)]
        assert asked == sorted(asked)
        assert (asked[0], asked[-1]) == (given[0], given[-1])


def test_the_graph_interpolates_rising_searches():
    graph = LookUpGraph((1.0, 2.0, 4.0), (10.0, 20.0, 30.0))
    assert [graph.search_time_budget(b) for b in (5, 10, 15, 20, 25, 30, 99)] == [1, 1, 1.5, 2, 3, 4, 4]
    assert LookUpGraph((1.0, 2.0, 3.0), (10.0, 30.0, 20.0)).search_time_budget(17.5) == pytest.approx(1.5)


def test_costs_of_certain_choices_are_those_of_the_network(space, make_bench, tmp_path):
    bench = make_bench(space, tmp_path)
    draws = random.Random(1)
    names = space.slots[0].primitives
    for costs in (make(bench.table) for make in RESOURCES.values()):
        genotype = space.sample(draws)
        if space.name == "nas-bench-201":  # whose ops may be dead: the published sum charges these
            genotype = Genotype(("nor_conv_3x3", "skip_connect", "avg_pool_3x3", *["nor_conv_1x1"] * 3))
        certain = torch.nn.functional.one_hot(
            torch.tensor([names.index(choice) for choice in genotype.choices]), len(names)
        )
        exact = costs.of_network(genotype)
        if space.name == "darts":  # preprocessing that some networks leave out is in every one's fixed costs
            assert float(costs.expected(certain.double())) == pytest.approx(exact, rel=0.2)
        else:
            assert float(costs.expected(certain.double())) == pytest.approx(exact, rel=1e-6)
        assert costs.smallest <= exact <= costs.largest
    assert latency_costs(bench.table).of_network(genotype) == pytest.approx(bench.table.predict(genotype).mean_ms)
