"""What a device can do in a space: its fastest, middle and slowest network, before any search."""

from __future__ import annotations

import random
from collections.abc import Sequence

from search.decoding.decoding import make_decoder, require_budget
from search.device.kernel_counts import CountKernels, no_counts
from search.family.family import by_kernels, make_candidates
from search.latency.latency_model import LatencyModel
from shared.spaces import Own
from shared.tables.table import CONFIDENCE, LatencyTable

DRAWN = 201
"""Random networks; their median is the middle."""


def describe_reach(
    table: LatencyTable,
    budgets_ms: Sequence[float] = (),
    confidence: float = CONFIDENCE,
    count_kernels: CountKernels = no_counts,
) -> str:
    """A line: latencies with their bounds, and whether the budgets lie between.

    Raises:
        BudgetTooSmall: no network of the space meets a budget.
        InvalidValue: a budget is no positive time, or the confidence not within 0.5 and 1.
    """
    model = LatencyModel(table)
    decoder = make_decoder(model, confidence)
    drawn = decoder.draw(decoder.largest_ms, DRAWN, random.Random(0))
    upper_ms = model.upper_ms(drawn, confidence)
    middle = drawn[int(upper_ms.argsort()[len(drawn) // 2])]
    three = make_candidates(model, [decoder.fastest, middle, decoder.slowest], confidence)
    ends = fastest, _, slowest = by_kernels(table, three, confidence, count_kernels)
    low, half, high = (f"{network.predicted_ms:.3g} ms (bound {network.upper_ms:.3g})" for network in ends)
    line = f"{table.device}: the fastest network takes {low}, half of all at most {half}, the slowest {high}"
    more = "" if isinstance(model.space, Own) else ", more --channels or --depth could use it"
    for budget_ms in budgets_ms:
        require_budget(budget_ms, fastest.upper_ms, table.device)
        share = 100 * float((upper_ms <= budget_ms).mean())
        line += f"; {budget_ms:g} ms: " + (
            f"every network meets it{more}" if budget_ms >= slowest.upper_ms else f"{share:.0f} % of all meet it"
        )
    return line
