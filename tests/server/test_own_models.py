"""Networks of a user's own model: their files, and a table without any op that was measured by itself."""

import onnx
import pytest
from onnx import TensorProto, helper

from lut_server.calibration.own_model import expected_prices
from lut_server.calibration.table_builder import build_table
from shared.kernels.kernel import parse_kernel
from shared.measurements.measurement import Run
from shared.measurements.plan import make_plan
from shared.runtime import Runtime
from shared.spaces import parse_space

SPACE = parse_space("own/0123456789abcdef/r8/i1/k10/3.2.3")
GRAPH = f"network:{SPACE}:0.1.2"
PRICES_MS = ((0.0, 0.5, 0.2), (0.3, 0.0), (0.1, 0.0, 0.4))
"""By choice and candidate, beyond 1 ms."""


def onnx_file(name):
    shape = [1, 2]
    values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["output"])], name, values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_a_network_has_the_first_file_that_came_under_its_reference(api):
    first, second = onnx_file("first"), onnx_file("second")
    asked = {"params": {"spec": GRAPH}}
    missing = api.get("/v1/graph", **asked)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_model")
    assert api.put("/v1/graph", content=first, role="search", **asked).status_code == 201
    assert api.put("/v1/graph", content=second, role="search", **asked).status_code == 200
    assert api.get("/v1/graph", **asked).content == first
    for more in ({"batch": 2}, {"precision": "int8"}):
        assert api.get("/v1/graph", params={"spec": GRAPH, **more}).status_code == 422


@pytest.mark.parametrize(
    ("spec", "content", "role", "status"),
    [
        (GRAPH, b"kettle", "search", 422),
        (GRAPH, None, "read", 403),
        ("canary:conv-v1", None, "search", 422),
        (f"network:{SPACE}:0.2.0", None, "search", 422),
        ("network:own/kettle:0", None, "search", 422),
    ],
)
def test_what_is_no_network_of_an_own_model_gets_no_file(steady_api, spec, content, role, status):
    answer = steady_api.put("/v1/graph", params={"spec": spec}, content=content or onnx_file("any"), role=role)
    assert answer.status_code == status
    assert answer.json()["error"]["message"].count("\n") == 0


def test_the_plan_of_a_space_is_the_same_on_every_server_and_holds_no_op(api):
    plan = api.get("/v1/plan", params={"space": str(SPACE)}).json()["plan"]
    assert {task["role"] for task in plan["tasks"]} == {"calibration", "held_out"}
    assert len(plan["tasks"]) == 18


def test_prices_without_kernels_are_those_of_the_networks(lab):
    plan = make_plan(SPACE)
    run = Run(
        "own-1", "pi", Runtime("onnxruntime", "1.31.0"), str(SPACE), plan.id, plan.canary, "0.1.0", "2026-01-01", {}
    )
    measured = [lab.measure(task, ms=latency_ms(task.subject), id=task.subject) for task in plan.tasks]
    table = build_table(run, plan, measured, 2.0)
    assert table.held_out.networks == 6
    assert table.held_out.mape_percent < 2
    assert table.baselines is None
    assert all(price.price_ms >= 0 for price in table.prices)
    for text in ("0.1.1", "1.0.2", "2.1.0"):
        assert table.predict(SPACE.parse(text)).mean_ms == pytest.approx(latency_ms(text), rel=0.03)


def test_kernels_say_what_a_candidate_takes_beyond_the_cheapest():
    class Prices:
        """Any kernel takes 0.1 ms."""

        def predict(self, kernels, guess):
            return 1.0 + 0.1 * sum(kernels.values()), 0.0, ()

    kernel = "Relu/1x2x2x2/1x2x2x2"
    parse_kernel(kernel)
    counts = {}
    for task in make_plan(SPACE).tasks:
        choices = [int(choice) for choice in task.subject.split(".")]
        counts[task.graph] = {kernel: round(sum(10 * PRICES_MS[place][at] for place, at in enumerate(choices)))}
    found = expected_prices(SPACE, 2.0, Prices(), counts)
    for place, costs in enumerate(PRICES_MS):
        for at, cost in enumerate(costs):
            (key,) = SPACE.slot_ops(place, str(at))
            assert found[key] == pytest.approx(cost, abs=0.01)
    assert set(expected_prices(SPACE, 3.0, None, counts).values()) == {0.5}


def latency_ms(text):
    return 1.0 + sum(PRICES_MS[place][int(at)] for place, at in enumerate(text.split(".")))


@pytest.mark.parametrize("counted", [True, False])
def test_forty_networks_price_nine_choices(lab, counted):
    """Wide prices, many of them, and few networks: with kernels, and where a runtime hides them."""
    space = parse_space("own/0123456789abcdef/r32/i3/k10/4.4.4.3.4.4.3.4.4")
    cost_ms = {key: 0.01 * (7 * place % 31) for place, key in enumerate(space.op_keys())}
    plan = make_plan(space)
    ms = {
        task.graph: 0.3 + sum(cost_ms[key] for key in space.op_counts(space.parse(task.subject))) for task in plan.tasks
    }
    run = Run(
        "own-2", "pi", Runtime("onnxruntime", "1.31.0"), str(space), plan.id, plan.canary, "0.1.0", "2026-01-01", {}
    )
    measured = [lab.measure(task, ms=ms[task.graph], id=task.subject) for task in plan.tasks]
    kernels = {graph: {"Relu/1x2x2x2/1x2x2x2": round(1000 * value)} for graph, value in ms.items()}
    table = build_table(run, plan, measured, 2.0, kernels if counted else {})
    assert table.held_out.networks == 20
    assert table.held_out.mape_percent < (1 if counted else 6)
    assert table.held_out.kendall_tau > (0.95 if counted else 0.8)
