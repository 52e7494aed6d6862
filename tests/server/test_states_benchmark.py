"""The benchmark of states, on a device whose neighbours slow networks and leave the canary as it is."""

import pytest

from benchmarks.latency.states import STATES, Recorded, compare
from lut_server.calibration.table_builder import build_table
from shared.measurements.graph_spec import NetworkGraph, parse_graph_spec

SLOWER = {"quiet": 1.0, "computing": 1.04, "streaming": 1.15, "both": 1.2}


def kernels_of(graph):
    """Each op is a kernel of its own."""
    spec = parse_graph_spec(graph)
    counts = spec.space.op_counts(spec.genotype) if isinstance(spec, NetworkGraph) else {spec.key: spec.copies}
    return {
        f"{key.primitive}/1x{key.input.channels}x{key.input.height}x{key.input.height}/1x4": n
        for key, n in counts.items()
    }


def recorded(lab, state):
    measured = [lab.measure(task, ms=SLOWER[state] * lab.latency_ms(task)) for task in lab.plan.tasks]
    counts = {graph: kernels_of(graph) for each in measured for graph in (each.graph, each.minus) if graph}
    table = build_table(lab.run(), lab.plan, measured, 2.0, counts)
    networks = {each.graph: each for each in measured if each.role in ("calibration", "held_out")}
    return Recorded(table, networks, counts, 60.0, 50.0)


def test_references_take_out_what_neighbours_do_to_networks(lab):
    figures = compare("lab", {state: recorded(lab, state) for state in STATES})
    assert figures["lab.as_timed.worst_mape_percent"].value == pytest.approx(20, abs=2)
    assert figures["lab.worst_mape_percent"].value < 2
    assert figures["lab.bound_99_least_coverage"].value == 100
    assert figures["lab.as_timed.bound_99_least_coverage"].value < 60
    assert figures["lab.wrongly_met"].value == 0
    assert figures["lab.campaign_longer"].value == pytest.approx(1.2)
    assert figures["lab.mape_percent"].n == 12
