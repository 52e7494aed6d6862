"""Isolated timings and the sums that no network was fitted to, beside the calibrated prices."""

import dataclasses

import pytest

from lut_server.calibration.table_builder import build_table
from shared.measurements.plan import make_plan
from shared.spaces import make_space
from shared.tables.table_text import describe_errors, describe_prices
from shared.wire import to_wire

SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
CALL_MS = 0.3
"""What a call of the runtime and the graph's edges add to an op that is timed alone."""


def make_table(lab, plan):
    run = lab.run(plan_id=plan.id)
    measurements = []
    for number, task in enumerate(plan.tasks):
        ms = lab.latency_ms(dataclasses.replace(task, role="marginal")) + CALL_MS if task.role == "isolated" else None
        measurements.append(lab.measure(task, ms=ms, id=f"m-{number}"))
    return build_table(run, plan, measurements, nominal_ms=2.0)


def test_isolated_timings_stand_beside_marginal_costs_with_the_error_of_their_sum(lab) -> None:
    table = make_table(lab, make_plan(SPACE, 8, 4, isolated=True))
    for price in table.prices:
        assert price.isolated_ms == pytest.approx(price.marginal_ms + CALL_MS, rel=0.01)
    marginal, isolated = table.baselines
    assert (marginal.costs, isolated.costs) == ("marginal", "isolated")
    assert (marginal.networks, isolated.networks) == (4, 4)
    # The lab's latencies are base plus ops: marginal costs predict them, isolated ones charge a
    # call for every op.
    assert marginal.mape_percent < 1 < 5 < isolated.mape_percent
    assert marginal.base_ms == pytest.approx(3.0, rel=0.02)
    counts = SPACE.op_counts(SPACE.fastest())
    assert isolated.base_ms == pytest.approx(3.0 - CALL_MS * counts.total(), rel=0.02)
    shown = describe_errors(table)
    assert f"{isolated.mape_percent:.2f} %" in shown
    assert "sum of marginal costs" in shown
    assert "sums start at the fastest calibration network's time beyond its ops" in shown
    assert f"{table.prices[0].isolated_ms:.5f}" in describe_prices(table)
    assert describe_prices(table, 5).endswith("and 7 more")


def test_a_run_of_an_older_plan_makes_a_table_without_isolated_timings(lab) -> None:
    table = make_table(lab, make_plan(SPACE, 8, 4))
    assert [baseline.costs for baseline in table.baselines] == ["marginal"]
    assert "isolated" not in describe_prices(table)
    assert to_wire(table)["prices"][0]["isolated_ms"] is None


def test_isolated_timings_change_no_price(lab) -> None:
    with_them, without = (make_table(lab, make_plan(SPACE, 8, 4, isolated=way)) for way in (True, False))
    for price, other in zip(with_them.prices, without.prices, strict=True):
        assert (price.price_ms, price.sd_ms) == (other.price_ms, other.sd_ms)
    assert with_them.held_out == without.held_out
