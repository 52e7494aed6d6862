from collections import Counter
from dataclasses import replace

import pytest
import torch

from search.alphas.condition import Condition, device_simplex, sample_condition
from search.alphas.expected_cost import make_objective
from search.alphas.hypernetwork import HYPERNETWORK_BUILDERS, RbfHypernetwork, make_pivots
from search.alphas.path_sampling import FairSampler, largest_genotype, sample_path, straight_through_gates
from search.process.randomness import generator
from search.supernet import Supernet
from shared.errors import InvalidValue, MissingPrice
from shared.spaces import Genotype
from shared.spaces.nas_bench_201 import PRIMITIVES_201


def one_hot_alpha(space, genotype, strength=60.0):
    rows = [[strength * (p == c) for p in s.primitives] for s, c in zip(space.slots, genotype.choices, strict=True)]
    return torch.tensor(rows)


def test_prices_on_the_simplex_follow_the_table(table):
    prices = dict(zip(PRIMITIVES_201, device_simplex(table).tolist(), strict=True))
    assert sum(prices.values()) == pytest.approx(1)
    assert prices["nor_conv_3x3"] > prices["nor_conv_1x1"] > prices["skip_connect"] > prices["none"] > 0


def test_sampled_conditions_lie_on_the_simplex_and_follow_the_generator(table):
    device = device_simplex(table)
    drawn = [sample_condition(device, 0.5, generator(0, "c", i)) for i in range(200)]
    assert all(c.prices.sum() == pytest.approx(1, abs=1e-5) and (c.prices > 0).all() for c in drawn)
    exact = sum(torch.equal(c.prices, device) for c in drawn)
    assert 70 <= exact <= 130
    again = sample_condition(device, 0.5, generator(0, "c", 3))
    assert torch.equal(again.vector(), drawn[3].vector())


def test_trade_offs_lie_on_a_log_scale(table):
    device = device_simplex(table)
    assert Condition(device, 0, 0).kappa_weight == pytest.approx(0.001)
    assert Condition(device, 0, 1).kappa_weight == pytest.approx(1)
    assert Condition(device, 1, 0).lambda_weight == pytest.approx(0.1)
    with pytest.raises(InvalidValue):
        Condition(device, 0, 1.5)


@pytest.mark.parametrize("kind", HYPERNETWORK_BUILDERS)
def test_every_hypernetwork_can_reach_every_alpha_from_a_neutral_start(table, kind):
    device = device_simplex(table)
    hypernetwork = HYPERNETWORK_BUILDERS[kind](6, device[None], 0.35)
    condition = Condition(device, 0.3, 0.6).vector()
    assert torch.equal(hypernetwork(condition), torch.zeros(6, 5))
    for slot in range(6):
        for primitive in range(5):
            gradients = torch.autograd.grad(
                hypernetwork(condition)[slot, primitive], list(hypernetwork.parameters()), allow_unused=True
            )
            assert any(g is not None and g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("kind", HYPERNETWORK_BUILDERS)
def test_a_hypernetwork_learns_an_alpha_that_depends_on_the_trade_off(table, kind):
    device = device_simplex(table)
    hypernetwork = HYPERNETWORK_BUILDERS[kind](6, device[None], 0.35)
    optimizer = torch.optim.Adam(hypernetwork.parameters(), lr=0.05)
    for _ in range(150):
        loss = torch.zeros(())
        for u in (0.0, 0.5, 1.0):
            loss = loss + (hypernetwork(Condition(device, 0.5, u).vector()) - (2 * u - 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_the_rbf_mixture_is_that_of_the_formula(table):
    device = device_simplex(table)
    pivots = make_pivots(device[None])
    assert pivots.shape == ((5 + 1 + 1) * 25, 7)
    assert torch.allclose(pivots[:, :5].sum(dim=1), torch.ones(len(pivots)))
    hypernetwork = RbfHypernetwork(6, device[None], 0.5)
    with torch.no_grad():
        hypernetwork.references.normal_(generator=torch.Generator().manual_seed(0))
    c = Condition(device, 0.2, 0.9).vector()
    weights = torch.exp(-(pivots - c).square().sum(1) / 0.25)
    expected = (weights / weights.sum()) @ hypernetwork.references
    torch.testing.assert_close(hypernetwork(c), expected.view(6, 5))


def test_a_condition_of_the_wrong_length_is_refused(table):
    with pytest.raises(InvalidValue):
        HYPERNETWORK_BUILDERS["rbf"](6, device_simplex(table)[None], 0.35)(torch.zeros(3))


def test_the_expected_latency_of_a_certain_alpha_is_the_tables_prediction(space, table):
    objective = make_objective(table)
    random = generator(0, "networks")
    for _ in range(10):
        genotype = sample_path(torch.zeros(6, 5), space, random)
        predicted_ms = table.predict(genotype).mean_ms
        assert objective.expected_latency_ms(one_hot_alpha(space, genotype)) == pytest.approx(predicted_ms, rel=1e-5)


def test_both_terms_run_from_0_for_the_fastest_to_1_for_the_largest(space, table):
    objective, condition = make_objective(table), Condition(device_simplex(table))
    for genotype, expected in ((space.fastest(), 0.0), (largest_genotype(space), 1.0)):
        latency, parameters = objective.terms(one_hot_alpha(space, genotype), condition)
        assert latency.item() == pytest.approx(expected, abs=1e-4)
        assert parameters.item() == pytest.approx(expected, abs=1e-4)


def test_the_expectation_is_that_of_sampled_networks(space, table):
    objective, random = make_objective(table), generator(0, "alpha")
    alpha = torch.randn(6, 5, generator=random)
    sampled = [table.predict(sample_path(alpha, space, random)).mean_ms for _ in range(2000)]
    assert objective.expected_latency_ms(alpha) == pytest.approx(sum(sampled) / len(sampled), rel=0.03)


def test_other_prices_change_which_network_is_slow(space, table):
    objective = make_objective(table)
    pools, convolutions = (one_hot_alpha(space, Genotype((name,) * 6)) for name in ("avg_pool_3x3", "nor_conv_3x3"))
    dear_pools = Condition(torch.tensor([0.001, 0.001, 0.001, 0.001, 0.996]))
    here = Condition(device_simplex(table))
    assert objective.terms(pools, here)[0] < objective.terms(convolutions, here)[0]
    assert objective.terms(pools, dear_pools)[0].item() == pytest.approx(1, abs=1e-3)
    assert objective.terms(convolutions, dear_pools)[0] < 0.1


def test_a_table_without_a_price_names_the_command_that_measures_it(table):
    kept = [price for price in table.prices if not price.op_key.startswith("avg_pool_3x3/4x")]
    size = len(kept) + 1
    lacking = replace(table, prices=tuple(kept), covariance=tuple((0.0,) * size for _ in range(size)))
    with pytest.raises(MissingPrice, match="profiler-agent profile"):
        make_objective(lacking)


def test_a_cycle_of_fair_paths_chooses_every_primitive_of_every_slot_once_and_ends_with_the_largest(space):
    sampler = FairSampler(space, seed=3)
    assert sampler.largest == Genotype(("nor_conv_3x3",) * 6)
    for cycle in range(20):
        first = cycle * sampler.cycle_length
        paths = [sampler.path(first + i) for i in range(sampler.cycle_length)]
        assert paths[-1] == sampler.largest
        assert all(map(space.is_connected, paths))
        for slot in range(6):
            assert Counter(path.choices[slot] for path in paths[:-1]) == dict.fromkeys(PRIMITIVES_201, 1)
    assert FairSampler(space, 3).path(77) == sampler.path(77)
    assert [FairSampler(space, 4).path(i) for i in range(5)] != [sampler.path(i) for i in range(5)]


def test_sampled_paths_are_connected_and_follow_alpha(space):
    random = generator(0, "paths")
    alpha = torch.zeros(6, 5)
    alpha[:, 0] = 3.0  # mostly "none": most draws are disconnected
    paths = [sample_path(alpha, space, random) for _ in range(100)]
    assert all(map(space.is_connected, paths))
    sure = one_hot_alpha(space, Genotype(("nor_conv_1x1",) * 6))
    assert sample_path(sure, space, random) == Genotype(("nor_conv_1x1",) * 6)
    nothing = one_hot_alpha(space, Genotype(("none",) * 6))
    assert sample_path(nothing, space, random) == space.fastest()


def test_gates_are_hard_forward_and_every_op_gets_a_gradient_through_the_supernet(space):
    torch.manual_seed(0)
    supernet = Supernet(space).train()
    alpha = torch.zeros(6, 5, requires_grad=True)
    total = torch.zeros(6, 5)
    for index in range(6):
        gates = straight_through_gates(alpha, space, 1.0, generator(0, "gates", index))
        assert torch.allclose(gates.sum(dim=1), torch.ones(6))
        assert torch.allclose(gates.max(dim=1).values, torch.ones(6))
        loss = torch.nn.functional.cross_entropy(supernet(torch.randn(4, 3, 16, 16), gates), torch.randint(0, 10, (4,)))
        (gradient,) = torch.autograd.grad(loss, alpha)
        total += gradient.abs()
    assert (total > 0).all()
