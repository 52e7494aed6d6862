"""What the settle check after a campaign does to a table's bound."""

import json
import math
from dataclasses import replace

import pytest

from lut_server.calibration.table_builder import build_table
from lut_server.runs.finish_run import finish_run
from shared.measurements.plan import Task
from shared.tables.table import read_table
from shared.tables.table_text import describe_errors


def measured_twice(lab, slower, canary_ms=2.0):
    """A campaign, and a settle check that found its networks slower by `slower(index)`."""
    measured = lab.measure_all(canary_ms=canary_ms)
    networks = [each for each in measured if each.role in ("calibration", "held_out")][:8]
    again = []
    for index, each in enumerate(networks):
        task = Task(each.subject, "settle", each.graph)
        ms = lab.latency_ms(task) * slower(index)
        again.append(lab.measure(task, canary_ms, ms, id=f"settle-{index}"))
    return [*measured, *again]


def table_with(lab, slower):
    return build_table(lab.run(), lab.plan, measured_twice(lab, slower), 2.0)


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


def test_table_of_a_busy_machine_says_how_far_it_is_from_the_quietest(lab, any_store):
    tables = []
    any_store.devices.register("pi", {})
    for name, canary_ms in (("quiet", 2.0), ("busy", 1.6), ("less-busy", 1.9)):
        run = lab.run(name)
        any_store.runs.put(run)
        again = measured_twice(lab, lambda index: 1.0, canary_ms)
        any_store.runs.add_measurements(name, [replace(each, id=f"{name}-{each.id}") for each in again])
        tables.append(read_table(json.loads(any_store.tables.get_bytes(finish_run(any_store, run, lab.plan).hash))))
    quiet, busy, less_busy = tables
    assert quiet.settled.beside_quietest is None
    assert busy.settled.beside_quietest == pytest.approx(math.log(2.0 / 1.6), abs=0.01)
    assert less_busy.settled.beside_quietest == pytest.approx(math.log(2.0 / 1.9), abs=0.01)
    assert "networks take 25 % longer than in a quieter table" in busy.settled.doubt
    assert quiet.settled.doubt == ""
