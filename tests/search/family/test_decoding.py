import itertools

import numpy as np
import pytest

from search.decoding.decoding import Band, enumerate_space, make_decoder
from search.latency.latency_model import LatencyModel
from shared.errors import BudgetTooSmall, InvalidValue
from shared.spaces import Genotype


@pytest.fixture(scope="module")
def decoder(table):
    return make_decoder(LatencyModel(table))


@pytest.fixture(scope="module")
def brute_force(table, space):
    """(genotype, function, upper bound) of every connected genotype, by single predictions of the table."""
    bounds = {}
    found = []
    for choices in itertools.product(*(slot.primitives for slot in space.slots)):
        genotype = Genotype(choices)
        if not space.is_connected(genotype):
            continue
        canonical = space.canonical(genotype)
        if canonical not in bounds:
            bounds[canonical] = table.predict(canonical).upper_ms()
        found.append((genotype, space.signature(genotype), bounds[canonical]))
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
    probable, cheapest = {}, {}
    for genotype, function, upper_ms in brute_force:
        score = sum(log_probabilities[slot, column[slot][c]] for slot, c in enumerate(genotype.choices))
        probable[function] = max(probable.get(function, -np.inf), score)
        cheapest[function] = min(cheapest.get(function, np.inf), upper_ms)
    within = [function for function in probable if floor_ms < cheapest[function] <= budget_ms]
    expected = sorted(within, key=lambda function: -probable[function])[:5]
    (decoded,) = decoder.decode(log_probabilities, [Band(budget_ms, floor_ms)], count=5)
    assert [space.signature(network.genotype) for network in decoded] == expected
    assert [network.log_probability for network in decoded] == pytest.approx(
        [probable[function] for function in expected]
    )
    assert [network.upper_ms for network in decoded] == pytest.approx([cheapest[function] for function in expected])


def test_decoded_networks_meet_the_budget_connected_and_distinct(decoder, space, table):
    budgets_ms = np.linspace(decoder.smallest_ms, decoder.largest_ms, 7)
    decoded = decoder.decode(random_log_probabilities(space, 9), [Band(m) for m in budgets_ms], count=4)
    for budget_ms, found in zip(budgets_ms, decoded, strict=True):
        assert len({space.signature(network.genotype) for network in found}) == len(found) >= 1
        for network in found:
            assert network.upper_ms <= budget_ms
            assert table.predict(network.genotype).upper_ms() == pytest.approx(network.upper_ms)


def test_the_smallest_budget_leaves_the_fastest_network(decoder, space):
    ((only,),) = decoder.decode(random_log_probabilities(space, 2), [Band(decoder.smallest_ms)], count=3)
    assert only.genotype == space.fastest()


def test_budget_below_the_fastest_network_is_an_error_with_the_smallest_bound(decoder, space):
    with pytest.raises(BudgetTooSmall) as caught:
        decoder.decode(random_log_probabilities(space, 0), [Band(0.5 * decoder.smallest_ms)])
    assert caught.value.smallest_ms == decoder.smallest_ms
    assert "testbed" in str(caught.value)


@pytest.mark.parametrize("smallest_ms", [0.0123456, 0.23261, 0.999999, 1.0, 12.3411, 123.4, 4321.0])
def test_the_budget_named_by_the_error_is_enough(smallest_ms):
    said = str(BudgetTooSmall(0.5 * smallest_ms, smallest_ms, "testbed"))
    advised_ms = float(said.partition("needs ")[2].partition(" ms")[0])
    assert smallest_ms <= advised_ms <= 1.01 * smallest_ms


@pytest.mark.parametrize("budget_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_budget_that_is_no_time_is_refused(decoder, budget_ms):
    with pytest.raises(InvalidValue, match="max-latency-ms"):
        decoder.feasible(budget_ms)


def test_enumeration_lists_every_connected_genotype_once(space, brute_force, decoder):
    listed = enumerate_space(space)
    assert len(listed.choices) == len(brute_force)
    assert (
        len(set(listed.forms))
        == len(listed.forms)
        == len({space.canonical(genotype) for genotype, _, _ in brute_force})
    )
    assert len(decoder.feasible(decoder.largest_ms)) == len({function for _, function, _ in brute_force})
    assert enumerate_space(space) is listed


def test_detour_over_skips_is_the_same_network_under_its_cheapest_name(decoder, space):
    detour = space.parse("|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|")
    direct = space.parse("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    assert space.signature(detour) == space.signature(direct)
    names = decoder.feasible(decoder.largest_ms)
    assert direct in names
    assert detour not in names


@pytest.mark.parametrize(
    ("text", "other"),
    [
        # one op whose result is used twice, and two ops
        (
            "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|",
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|",
        ),
        # the input once, and twice
        (
            "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
            "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|",
        ),
        # in sequence, in the other order
        (
            "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|",
            "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
        ),
    ],
    ids=["used twice", "added twice", "order"],
)
def test_networks_that_compute_different_things_have_different_signatures(space, text, other):
    assert space.signature(space.parse(text)) != space.signature(space.parse(other))


def test_feasible_networks_grow_with_the_budget(decoder):
    budgets_ms = np.linspace(decoder.smallest_ms, decoder.largest_ms * 1.0001, 5)
    counts = [len(decoder.feasible(budget_ms)) for budget_ms in budgets_ms]
    assert counts == sorted(counts)
    assert counts[0] == 1
