import itertools

import numpy as np
import pytest

from search.decoding import Band, enumerate_space, make_decoder
from search.latency_model import LatencyModel
from shared.errors import BudgetTooSmall, InvalidValue
from shared.spaces import Genotype


@pytest.fixture(scope="module")
def decoder(table):
    return make_decoder(LatencyModel(table))


@pytest.fixture(scope="module")
def brute_force(table, space):
    """(genotype, canonical, upper bound) of every connected genotype, by the table's own slow words."""
    bounds = {}
    found = []
    for choices in itertools.product(*(slot.primitives for slot in space.slots)):
        genotype = Genotype(choices)
        if not space.is_connected(genotype):
            continue
        canonical = space.canonical(genotype)
        if canonical not in bounds:
            bounds[canonical] = table.predict(canonical).upper_ms()
        found.append((genotype, canonical, bounds[canonical]))
    return found


def random_log_probabilities(space, seed):
    alpha = np.random.default_rng(seed).normal(size=(len(space.slots), 5)) * 2
    return alpha - np.log(np.exp(alpha).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("floor_share", [0.0, 0.55])
def test_k_best_are_those_of_brute_force(decoder, brute_force, space, seed, floor_share):
    log_probabilities = random_log_probabilities(space, seed)
    column = [{name: i for i, name in enumerate(slot.primitives)} for slot in space.slots]
    budget_ms = 0.35 * decoder.smallest_ms + 0.65 * decoder.largest_ms
    floor_ms = floor_share * decoder.largest_ms
    best = {}
    for genotype, canonical, upper_ms in brute_force:
        score = sum(log_probabilities[slot, column[slot][c]] for slot, c in enumerate(genotype.choices))
        if floor_ms < upper_ms <= budget_ms:
            best[canonical] = max(best.get(canonical, -np.inf), score)
    expected = sorted(best.items(), key=lambda item: -item[1])[:5]
    (decoded,) = decoder.decode(log_probabilities, [Band(budget_ms, floor_ms)], count=5)
    assert [one.genotype for one in decoded] == [genotype for genotype, _ in expected]
    assert [one.log_probability for one in decoded] == pytest.approx([score for _, score in expected])


def test_what_is_decoded_meets_the_budget_and_is_connected_and_distinct(decoder, space, table):
    budgets_ms = np.linspace(decoder.smallest_ms, decoder.largest_ms, 7)
    decoded = decoder.decode(random_log_probabilities(space, 9), [Band(one) for one in budgets_ms], count=4)
    for budget_ms, found in zip(budgets_ms, decoded, strict=True):
        assert len({space.canonical(one.genotype) for one in found}) == len(found) >= 1
        for one in found:
            assert one.upper_ms <= budget_ms
            assert table.predict(one.genotype).upper_ms() == pytest.approx(one.upper_ms)


def test_at_the_smallest_budget_the_fastest_network_is_what_is_left(decoder, space):
    ((only,),) = decoder.decode(random_log_probabilities(space, 2), [Band(decoder.smallest_ms)], count=3)
    assert only.genotype == space.fastest()


def test_budget_below_the_fastest_network_is_an_error_with_the_smallest_bound(decoder, space):
    with pytest.raises(BudgetTooSmall) as caught:
        decoder.decode(random_log_probabilities(space, 0), [Band(0.5 * decoder.smallest_ms)])
    assert caught.value.smallest_ms == decoder.smallest_ms
    advised_ms = float(str(caught.value).partition("needs ")[2].partition(" ms")[0])
    assert advised_ms >= decoder.smallest_ms, "who asks for the advised time must get a network"
    assert "testbed" in str(caught.value)


@pytest.mark.parametrize("budget_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_budget_that_is_no_time_is_refused(decoder, budget_ms):
    with pytest.raises(InvalidValue, match="max-latency-ms"):
        decoder.feasible(budget_ms)


def test_enumeration_lists_every_connected_genotype_once(space, brute_force):
    listed = enumerate_space(space)
    assert len(listed.choices) == len(brute_force)
    assert len(set(listed.networks)) == len(listed.networks) == len({canonical for _, canonical, _ in brute_force})
    assert enumerate_space(space) is listed


def test_feasible_networks_grow_with_the_budget(decoder):
    budgets_ms = np.linspace(decoder.smallest_ms, decoder.largest_ms * 1.0001, 5)
    counts = [len(decoder.feasible(budget_ms)) for budget_ms in budgets_ms]
    assert counts == sorted(counts)
    assert counts[0] == 1
