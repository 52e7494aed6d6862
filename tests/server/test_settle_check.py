"""What the settle check after a campaign does to a table's bound."""

import pytest

from lut_server.calibration.table_builder import build_table
from shared.measurements.plan import Task
from shared.tables.table_text import describe_errors


def table_with(lab, slower):
    """A table whose settle check found its networks slower by `slower(index)`."""
    measured = lab.measure_all()
    networks = [each for each in measured if each.role in ("calibration", "held_out")][:8]
    again = []
    for index, each in enumerate(networks):
        task = Task(each.subject, "settle", each.graph)
        again.append(lab.measure(task, ms=lab.latency_ms(task) * slower(index), id=f"settle-{index}"))
    return build_table(lab.run(), lab.plan, [*measured, *again], 2.0)


def half_width(table):
    prediction = table.predict(table.parsed_space.fastest())
    return prediction.upper_ms(0.95) / prediction.mean_ms - 1


def test_steady_state_leaves_the_bound(lab):
    plain, steady = build_table(lab.run(), lab.plan, lab.measure_all(), 2.0), table_with(lab, lambda index: 1.0)
    assert plain.settled is None
    assert steady.settled.networks == 8
    assert steady.settled.widening < 0.002
    assert half_width(steady) == pytest.approx(half_width(plain), rel=0.02)
    assert "once more, +0.0 %" in describe_errors(steady)
    assert "bounds are" not in describe_errors(steady)


def test_shift_of_all_networks_moves_the_table_half_way_and_widens_the_bound(lab):
    plain, shifted = table_with(lab, lambda index: 1.0), table_with(lab, lambda index: 1.1)
    assert shifted.settled.shift == pytest.approx(0.095, abs=0.003)
    assert shifted.settled.spread < 0.005
    moved = [
        found.measured_ms / there.measured_ms for found, there in zip(shifted.networks, plain.networks, strict=True)
    ]
    assert moved == pytest.approx([shifted.settled.midway] * len(moved))
    assert shifted.settled.midway == pytest.approx(1.1**0.5, rel=0.003)
    assert shifted.canary_nominal_ms == plain.canary_nominal_ms
    assert half_width(shifted) > max(1.6 * 0.047, 2 * half_width(plain))
    assert shifted.held_out.bound_half_width_percent > plain.held_out.bound_half_width_percent + 5
    assert "bounds are" in describe_errors(shifted)


def test_networks_that_change_differently_widen_the_bound(lab):
    uneven = table_with(lab, lambda index: 1.06 if index % 2 else 1 / 1.06)
    assert abs(uneven.settled.shift) < 0.005
    assert uneven.settled.spread == pytest.approx(0.062, abs=0.004)
    assert half_width(uneven) > 1.6 * 0.06


def test_settle_measurements_of_ops_are_left_out(lab):
    measured = lab.measure_all()
    stray = Task(measured[0].subject, "settle", measured[0].graph)
    table = build_table(lab.run(), lab.plan, [*measured, lab.measure(stray, ms=1.0)], 2.0)
    assert table.settled is None
