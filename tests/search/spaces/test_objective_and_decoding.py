import itertools
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from search.alphas.condition import Condition, device_simplex
from search.alphas.expected_cost import LatencyTerm, make_objective
from search.alphas.path_sampling import largest_genotype
from search.decoding.decoding import Band, make_decoder
from search.genotypes.constrained_argmax import best_choices, choice_probabilities, to_genotype
from search.latency.latency_model import LatencyModel
from shared.errors import BudgetTooSmall, InvalidValue, MissingPrice
from shared.spaces import Genotype, make_space

DARTS = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)
FBNET = make_space("fbnet", resolution=8, channels=8, depth=1, classes=10, image_channels=1)


def certain(space, genotype):
    rows = [[60.0 * (p == c) for p in s.primitives] for s, c in zip(space.slots, genotype.choices, strict=True)]
    return torch.tensor(rows)


def node_choices(slots, primitives):
    """Every choice of a node of darts: two of its edges, an op on each."""
    for pair in itertools.combinations(slots, 2):
        for ops in itertools.product(primitives, repeat=2):
            yield dict(zip(pair, ops, strict=True))


def test_the_expected_latency_of_a_certain_alpha_is_the_tables_prediction(space, table_of):
    table = table_of(space)
    objective, model = make_objective(table), LatencyModel(table)
    draws = random.Random(0)
    for genotype in [space.fastest(), *(space.sample(draws) for _ in range(8))]:
        predicted_ms = table.predict(genotype).mean_ms
        assert objective.expected_latency_ms(certain(space, genotype)) == pytest.approx(predicted_ms, rel=1e-5)
        assert model.mean_and_sd_ms([genotype])[0][0] == pytest.approx(predicted_ms)
        assert model.upper_ms([genotype])[0] == pytest.approx(table.predict(genotype).upper_ms())
        assert objective.minimum_ms - 1e-9 <= predicted_ms <= objective.maximum_ms + 1e-9


SPACES = [DARTS, FBNET, make_space("nas-bench-macro", resolution=8), make_space("nas-bench-201", channels=4)]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_latency_term_is_the_tables_prediction_where_choices_are_certain(space, table_of):
    table, draws = table_of(space), random.Random(0)
    term = LatencyTerm(table)
    assert term.choices_ms.shape == (len(space.slots), len(space.slots[0].primitives))
    for genotype in [space.fastest(), *(space.sample(draws) for _ in range(20))]:
        one_hot = (certain(space, genotype) > 0).double()
        assert float(term(one_hot)) == pytest.approx(table.predict(genotype).mean_ms, abs=1e-6)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_gradient_of_the_latency_term_is_that_of_finite_differences(space, table_of, probabilities_of):
    term = LatencyTerm(table_of(space))
    probabilities = torch.tensor(probabilities_of(space, 1)).exp().requires_grad_()
    assert torch.autograd.gradcheck(term, probabilities, eps=1e-5, atol=1e-4, rtol=1e-4)
    single = term(probabilities.float())
    assert (single.dtype, single.shape) == (torch.float32, ())
    with pytest.raises(InvalidValue, match=r"probabilities: \(3, 5\) are not \("):
        term(torch.ones(3, 5))


def test_both_terms_run_from_0_to_1_over_the_networks_of_the_space(space, table_of):
    objective = make_objective(table_of(space))
    condition = Condition(objective.device)
    draws = random.Random(1)
    terms = [objective.terms(certain(space, space.sample(draws)), condition) for _ in range(30)]
    assert all(-1e-6 <= float(term) <= 1 + 1e-6 for pair in terms for term in pair)
    assert float(objective.terms(certain(space, largest_genotype(space)), condition)[1]) == pytest.approx(1, abs=1e-5)
    other = Condition(torch.full_like(objective.device, 1 / len(objective.device)))
    assert 0 <= float(objective.terms(torch.zeros(len(space.slots), len(space.slots[0].primitives)), other)[0]) <= 1


def test_expected_latency_over_a_node_of_darts_is_the_mean_over_all_its_choices(table_of, probabilities_of):
    table, group = table_of(DARTS), DARTS.groups[2]
    alpha = torch.tensor(probabilities_of(DARTS, 4))
    probabilities = choice_probabilities(DARTS, alpha)
    names = DARTS.slots[0].primitives
    weights, uses = [], []
    for choice in node_choices(group.slots, names[1:]):
        columns = [names.index(choice.get(slot, "none")) for slot in group.slots]
        weights.append(float(sum(alpha[slot, c] for slot, c in zip(group.slots, columns, strict=True)).exp()))
        uses.append(torch.nn.functional.one_hot(torch.tensor(columns), len(names)).double())
    expected = sum(w * use for w, use in zip(weights, uses, strict=True)) / sum(weights)
    torch.testing.assert_close(probabilities[list(group.slots)], expected)
    objective, model = make_objective(table), LatencyModel(table)
    assert objective.expected_latency_ms(alpha) == pytest.approx(model.expected_ms(probabilities.numpy()), rel=1e-9)


def test_terms_have_a_gradient_that_points_away_from_dear_ops(table_of):
    objective = make_objective(table_of(DARTS))
    alpha = torch.zeros(28, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective.penalty(alpha, Condition(objective.device, 0, 1)), alpha)
    names = DARTS.slots[0].primitives
    assert gradient[0, names.index("sep_conv_5x5")] > 0 > gradient[0, names.index("max_pool_3x3")]


def test_the_best_choices_of_a_node_are_those_of_brute_force(probabilities_of):
    for seed in range(5):
        scores = torch.tensor(probabilities_of(DARTS, seed))
        found = best_choices(DARTS, scores)
        assert DARTS.is_connected(to_genotype(DARTS, found))
        for group in DARTS.groups:
            names = DARTS.slots[0].primitives
            best = max(
                sum(float(scores[slot, names.index(choice.get(slot, "none"))]) for slot in group.slots)
                for choice in node_choices(group.slots, names[1:])
            )
            assert sum(float(scores[slot, found[slot]]) for slot in group.slots) == pytest.approx(best)


def test_a_table_that_lacks_ops_names_all_of_them_and_the_command(table_of):
    table = table_of(FBNET)
    lacking = replace(table, prices=table.prices[2:], covariance=tuple(row[2:] for row in table.covariance[2:]))
    for use in (device_simplex, make_objective, LatencyModel):
        with pytest.raises(MissingPrice) as caught:
            use(lacking)
        text = str(caught.value)
        assert table.prices[0].op_key in text
        assert table.prices[1].op_key in text
        assert "profiler-agent profile" in text
        assert "--space fbnet" in text


def few_choices(space, log_p):
    """A few thousand networks of a space, and log-probabilities that exclude all others."""
    names = space.slots[0].primitives
    if not space.groups:
        allowed = [(0, 3, 8) if space.name == "fbnet" else (0, 1, 2)] * len(space.slots)
        networks = list(itertools.product(*allowed))
    else:
        first = best_choices(space, torch.tensor(log_p)).tolist()
        free = [group for group in space.groups if len(group.slots) in (3, 4)][:2]
        allowed = [(column,) for column in first]
        for group in free:
            for slot in group.slots:
                allowed[slot] = (0, 3, 4, 6)
        ways = [list(node_choices(group.slots, [names[3], names[4], names[6]])) for group in free]
        networks = []
        for chosen in itertools.product(*ways):
            columns = list(first)
            for group, choice in zip(free, chosen, strict=True):
                for slot in group.slots:
                    columns[slot] = names.index(choice.get(slot, "none"))
            networks.append(tuple(columns))
    mask = np.full_like(log_p, -np.inf)
    for slot, columns in enumerate(allowed):
        mask[slot, list(columns)] = 0
    return log_p + mask, networks


@pytest.mark.parametrize("seed", range(4))
def test_the_k_best_of_a_band_are_those_of_brute_force(space, seed, table_of, probabilities_of):
    model = LatencyModel(table_of(space, seed))
    decoder = make_decoder(model)
    log_p, networks = few_choices(space, probabilities_of(space, seed))
    names = space.slots[0].primitives
    genotypes = [Genotype(tuple(names[c] for c in columns)) for columns in networks]
    upper_ms = model.upper_ms(genotypes)
    score = log_p[np.arange(len(space.slots)), np.array(networks)].sum(axis=1)
    edges_ms = np.quantile(upper_ms, [0.05, 0.3, 0.5, 0.9])
    bands = [Band(edges_ms[0]), Band(edges_ms[2], edges_ms[1]), Band(edges_ms[3]), Band(float(upper_ms.max()) * 1.01)]
    for band, found in zip(bands, decoder.decode(log_p, bands, 5), strict=True):
        within = np.flatnonzero((upper_ms > band.floor_ms) & (upper_ms <= band.budget_ms))
        expected = within[np.argsort(-score[within])][:5]
        assert [network.log_probability for network in found] == pytest.approx(score[expected].tolist())
        assert {network.genotype for network in found} == {genotypes[index] for index in expected}


def test_decoded_networks_meet_the_budget_valid_and_distinct(space, table_of, probabilities_of):
    table = table_of(space)
    decoder = make_decoder(LatencyModel(table))
    budgets_ms = np.geomspace(decoder.smallest_ms, decoder.largest_ms, 8)[1:]
    for band_ms, found in zip(
        budgets_ms, decoder.decode(probabilities_of(space, 3), [Band(b) for b in budgets_ms], 4), strict=True
    ):
        assert len({network.genotype for network in found}) == len(found) == 4
        for network in found:
            assert space.is_connected(network.genotype)
            assert network.upper_ms <= band_ms
            assert table.predict(network.genotype).upper_ms() == pytest.approx(network.upper_ms)


def test_no_network_is_faster_than_the_decoders_fastest(space, table_of, probabilities_of):
    table = table_of(space)
    decoder = make_decoder(LatencyModel(table))
    assert table.predict(decoder.fastest).upper_ms() == pytest.approx(decoder.smallest_ms)
    draws = random.Random(0)
    others = [space.fastest(), *(space.sample(draws) for _ in range(200))]
    bounds_ms = LatencyModel(table).upper_ms(others)
    assert (decoder.smallest_ms <= bounds_ms + 1e-12).all()
    assert (bounds_ms <= decoder.largest_ms).all()
    with pytest.raises(BudgetTooSmall) as caught:
        decoder.decode(probabilities_of(space, 0), [Band(0.9 * decoder.smallest_ms)])
    assert caught.value.smallest_ms == decoder.smallest_ms


def test_random_networks_under_a_budget_are_distinct_networks_within_it_and_repeatable(space, table_of):
    table = table_of(space)
    decoder = make_decoder(LatencyModel(table))
    for share in (0.0, 0.05, 0.5, 1.0):
        budget_ms = decoder.smallest_ms + share * (decoder.largest_ms - decoder.smallest_ms)
        drawn = decoder.draw(budget_ms, 20, random.Random(3))
        few = share == 0.05 and space.name == "nas-bench-macro"  # there six networks are so fast
        assert len(set(drawn)) == len(drawn) >= (len(decoder.feasible(budget_ms)) if few else 20 if share else 1)
        assert all(
            space.is_connected(genotype) and table.predict(genotype).upper_ms() <= budget_ms * 1.000001
            for genotype in drawn
        )
        assert drawn == decoder.draw(budget_ms, 20, random.Random(3))


def test_random_networks_are_uniform_over_those_that_meet_the_budget(table_of):
    """Compared with rejection sampling."""
    table = table_of(FBNET)
    model = LatencyModel(table)
    decoder = make_decoder(model)
    draws = random.Random(0)
    plain = [FBNET.sample(draws) for _ in range(6000)]
    bounds_ms = model.upper_ms(plain)
    budget_ms = float(np.quantile(bounds_ms, 0.3))
    kept = [genotype for genotype, bound_ms in zip(plain, bounds_ms, strict=True) if bound_ms <= budget_ms]
    drawn = decoder.draw(budget_ms, 1500, random.Random(1))
    for slot, place in enumerate(FBNET.slots):
        expected, found = (Counter(genotype.choices[slot] for genotype in group) for group in (kept, drawn))
        for name in place.primitives:
            assert found[name] / len(drawn) == pytest.approx(expected[name] / len(kept), abs=0.06)
