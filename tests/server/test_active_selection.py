"""Which networks a run measures next: those that the prices know least of, and never a held-out
one."""

import dataclasses
import random

import numpy as np
import pytest

from lut_server.runs.active_selection import POOL, Outlook, draw_pool
from shared.measurements.active_selection import Choice
from shared.measurements.graph_spec import NetworkGraph, parse_graph_spec
from shared.measurements.plan import make_plan
from shared.spaces import make_space
from shared.tables.table import read_table
from shared.wire import from_wire, to_wire

SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
PLAN = make_plan(SPACE, calibration=30, held_out=20)
FIRST = 8
PRICES = {"nor_conv_3x3": 1.5, "nor_conv_1x1": 0.4, "avg_pool_3x3": 0.5, "skip_connect": 0.02}


def kernels_of(graph):
    """A made-up runtime: a kernel per op and its shape; in networks also the parts around the
    cells."""
    spec = parse_graph_spec(graph)
    if isinstance(spec, NetworkGraph):
        counts = {name: n for key, n in SPACE.op_counts(spec.genotype).items() for name in [kernel(key)]}
        return {**counts, "Gemm/1x16,w10x16/1x10/transB=1": 1}
    return {kernel(spec.key): spec.copies}


def kernel(key):
    c, side = key.input.channels, key.input.height
    shape = f"1x{c}x{side}x{side}"
    ops = {
        "nor_conv_3x3": f"Conv/{shape},w{c}x{c}x3x3/{shape}/pads=1x1x1x1",
        "nor_conv_1x1": f"Conv/{shape},w{c}x{c}x1x1/{shape}",
        "avg_pool_3x3": f"AveragePool/{shape}/{shape}/kernel_shape=3x3",
        "skip_connect": f"Add/{shape},{shape}/{shape}",
    }
    return ops[key.primitive]


def start(api, lab, tasks, noise=0.003):
    """A run in which these tasks are measured and their kernels are known."""
    rng = random.Random(1)
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    api.put("/v1/runs/run-1", to_wire(lab.run(plan_id=PLAN.id, canary=PLAN.canary, space=PLAN.space)))
    measured = [
        lab.measure(task, ms=lab.latency_ms(task) * rng.lognormvariate(0, noise), id=f"m-{task.role}-{i}")
        for i, task in enumerate(tasks)
    ]
    answer = api.post("/v1/runs/run-1/measurements", {"measurements": to_wire(measured)})
    assert answer.status_code == 200, answer.text


def count(api, graphs):
    answer = api.put("/v1/runs/run-1/kernels", {"counts": {graph: kernels_of(graph) for graph in graphs}})
    assert answer.status_code == 200, answer.text


def ask(api, **more):
    body = {"plan": to_wire(PLAN), "most": 30, "batch": 5, "bound_percent": 3.0, "counted": False, **more}
    answer = api.post("/v1/runs/run-1/next", body)
    assert answer.status_code == 200, answer.text
    return from_wire(Choice, answer.json())


def of_role(role):
    return [task for task in PLAN.tasks if task.role == role]


def test_the_pool_is_the_same_each_time_and_holds_no_held_out_network() -> None:
    pool = draw_pool(SPACE, PLAN)
    assert pool == draw_pool(SPACE, PLAN)
    assert len(pool) == POOL
    signatures = {SPACE.signature(genotype) for genotype in pool}
    assert len(signatures) == POOL
    assert not signatures & {SPACE.signature(SPACE.parse(task.subject)) for task in of_role("held_out")}


def test_a_batch_is_not_several_times_the_same_question() -> None:
    """Networks 0 and 1 hang together, 2 is apart: after 0, nothing is to be learnt from 1."""
    covariance = np.array([[1.0, 0.99, 0.0], [0.99, 0.99, 0.0], [0.0, 0.0, 0.3]])
    assert Outlook(np.full(3, 10.0), covariance, 0.001).most_telling(2) == [0, 2]
    # The same uncertainty matters more to a fast network than to a slow one.
    assert Outlook(np.array([100.0, 100.0, 5.0]), covariance, 0.001).most_telling(1) == [2]


def test_kernels_are_asked_for_first_and_then_networks_are_chosen_outside_the_held_out_ones(api, lab) -> None:
    start(api, lab, [*of_role("marginal"), *of_role("calibration")[:FIRST]])
    count(api, PLAN.graphs()[1:])
    first = ask(api)
    assert first.tasks == ()
    names = {str(NetworkGraph(SPACE, genotype)) for genotype in draw_pool(SPACE, PLAN)}
    assert set(first.count) == names - set(PLAN.graphs())
    count(api, first.count)
    choice = ask(api)
    assert choice.by == "kernels"
    assert choice.half_width_percent > 0
    assert len(choice.tasks) == 5
    assert len({task.graph for task in choice.tasks}) == 5
    taken = {task.graph for task in [*of_role("held_out"), *of_role("calibration")[:FIRST]]}
    assert not taken & {task.graph for task in choice.tasks}
    assert choice == ask(api)
    assert ask(api, bound_percent=99.0).enough
    assert not ask(api, bound_percent=0.0).enough
    assert len(ask(api, most=FIRST + 2).tasks) == 2
    assert ask(api, most=FIRST).tasks == ()


def test_what_is_measured_so_far_chooses_as_what_is_handed_in_does(api, lab) -> None:
    tasks = [*of_role("marginal"), *of_role("calibration")[:FIRST]]
    start(api, lab, tasks)
    count(api, PLAN.graphs()[1:])
    handed_in = ask(api, counted=True)
    stored = api.get("/v1/runs/run-1/measurements").json()["measurements"]
    api.put("/v1/runs/run-2", to_wire(lab.run("run-2", plan_id=PLAN.id, canary=PLAN.canary, space=PLAN.space)))
    body = {"plan": to_wire(PLAN), "most": 30, "batch": 5, "bound_percent": 3.0, "counted": True}
    assert api.post("/v1/runs/run-2/next", body).status_code == 422
    told = api.post("/v1/runs/run-2/next", {**body, "so_far": stored})
    assert told.status_code == 200, told.text
    assert from_wire(Choice, told.json()) == handed_in


def test_without_kernels_op_prices_choose(api, lab) -> None:
    start(api, lab, [*of_role("marginal"), *of_role("calibration")[:FIRST]])
    choice = ask(api, counted=True)
    assert (choice.by, len(choice.tasks)) == ("ops", 5)


def test_chosen_networks_are_part_of_the_fit_and_held_out_ones_never(api, lab) -> None:
    calibration, held_out = of_role("calibration"), of_role("held_out")
    start(api, lab, [*of_role("marginal"), *calibration[:FIRST], *held_out])
    count(api, PLAN.graphs()[1:])
    chosen = list(ask(api, counted=True).tasks)
    # A held-out network, handed in as one for the fit.
    smuggled = lab.measure(dataclasses.replace(held_out[0], role="calibration"), ms=99.0, id="smuggled")
    more = [lab.measure(task, id=f"chosen-{i}") for i, task in enumerate(chosen)]
    answer = api.post("/v1/runs/run-1/measurements", {"measurements": to_wire([*more, smuggled])})
    assert answer.status_code == 200, answer.text
    refused = api.post("/v1/runs/run-1/finish", {"plan": to_wire(PLAN)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid")
    made = api.post("/v1/runs/run-1/finish", {"plan": to_wire(PLAN), "chosen": True})
    assert made.status_code == 200, made.text
    table = read_table(api.get(f"/v1/tables/{made.json()['table']['hash']}").json())
    fitted = {network.genotype for network in table.networks if network.role == "calibration"}
    assert fitted == {task.subject for task in [*calibration[:FIRST], *chosen]}
    assert {network.genotype for network in table.networks if network.role == "held_out"} == {
        task.subject for task in held_out
    }
    assert table.kernels.held_out.networks == len(held_out)


@pytest.mark.parametrize("wrong", [{"most": 0}, {"batch": 0}, {"batch": 101}, {"bound_percent": -1.0}])
def test_a_request_outside_its_domain_is_refused(steady_api, wrong) -> None:
    body = {"plan": to_wire(PLAN), "most": 30, "batch": 5, "bound_percent": 3.0, **wrong}
    assert steady_api.post("/v1/runs/run-1/next", body).status_code == 422


def test_a_run_without_a_calibration_network_is_told_to_measure_some(api, lab) -> None:
    start(api, lab, of_role("marginal"))
    answer = api.post("/v1/runs/run-1/next", {"plan": to_wire(PLAN), "most": 30, "batch": 5, "bound_percent": 3.0})
    assert answer.status_code == 422
    assert "no calibration network yet" in answer.json()["error"]["message"]
