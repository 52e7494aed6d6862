import random
from dataclasses import replace

import numpy as np
import pytest

from search.decoding.decoding import make_decoder
from search.family.reach import describe_reach
from search.latency.latency_model import LatencyModel
from shared.errors import BudgetTooSmall, InvalidValue
from shared.spaces import make_space
from shared.tables.kernel_prices import FamilyCost, KernelPrice, KernelPrices

FBNET = make_space("fbnet", resolution=8, channels=8, depth=1)


@pytest.fixture(params=["nas-bench-201", "fbnet"])
def either(request, table, table_of):
    """A table of a space that is enumerated, or of one that is too large for that."""
    return table if request.param == "nas-bench-201" else table_of(FBNET)


def test_no_network_is_outside_the_ends_and_half_are_below_the_middle(either):
    model = LatencyModel(either)
    decoder = make_decoder(model)
    upper_ms = model.upper_ms(decoder.draw(decoder.largest_ms, 300, random.Random(5)))
    low_ms, half_ms, high_ms = (float(word.rstrip(",;)")) for word in bounds_of(describe_reach(either)))
    assert low_ms == pytest.approx(decoder.smallest_ms, rel=5e-3)
    assert high_ms == pytest.approx(decoder.largest_ms, rel=5e-3)
    assert model.upper_ms([decoder.slowest])[0] == pytest.approx(decoder.largest_ms)
    assert low_ms * 0.995 <= upper_ms.min() <= upper_ms.max() <= high_ms * 1.005
    assert np.mean(upper_ms <= half_ms) == pytest.approx(0.5, abs=0.15)


def bounds_of(line: str) -> list[str]:
    return [words.split()[0] for words in line.split("(bound ")[1:]]


def test_a_budget_is_placed_between_the_ends_or_refused(either):
    decoder = make_decoder(LatencyModel(either))
    middle_ms = (decoder.smallest_ms * decoder.largest_ms) ** 0.5
    line = describe_reach(either, [middle_ms, 2 * decoder.largest_ms])
    assert f"; {middle_ms:g} ms: " in line
    assert "% of all meet it; " in line
    assert line.endswith(" ms: every network meets it, more --channels or --depth could use it")
    with pytest.raises(BudgetTooSmall, match="no network meets"):
        describe_reach(either, [middle_ms, 0.9 * decoder.smallest_ms])
    with pytest.raises(InvalidValue, match="not a positive time"):
        describe_reach(either, [float("nan")])


def test_known_kernels_decide_whether_a_budget_can_be_met(table):
    """Prices of kernels know better than prices of ops: a budget below the bound by ops can be met."""
    decoder = make_decoder(LatencyModel(table))
    price = KernelPrice("Add/1x4x8x8/1x4x8x8", 0.5 * decoder.smallest_ms)
    prices = KernelPrices(0.0, (FamilyCost("Add", 0, 0, 0),), (price,), (0.0,) * 5, ((0.0,),) * 5, 0.0, 0.5)
    priced = replace(table, kernels=prices)
    counts = {decoder.fastest: {price.kernel: 1}}
    budget_ms = 0.7 * decoder.smallest_ms
    assert f"; {budget_ms:g} ms: 0 % of all" in describe_reach(priced, [budget_ms], count_kernels=lambda _: counts)
    with pytest.raises(BudgetTooSmall):
        describe_reach(priced, [budget_ms])
