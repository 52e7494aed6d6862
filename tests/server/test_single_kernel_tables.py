"""Kernels measured one by one: planned by what the table lacks, fitted, added to the table beside its own prices."""

import pytest

from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.measurement import Measurement, Round, Verdict
from shared.measurements.plan import Plan
from shared.tables.table import read_table
from shared.wire import from_wire, to_wire

CONV = "nchwc.Conv/1x16x8x8/1x32x4x4/k3x3.s2x2.g1.d1x1.Relu"
POOL = "nchwc.MaxPool/1x16x8x8/1x16x4x4/k2x2.s2x2"
REORDER = "nchwc.ReorderInput/1x16x8x8/1x16x8x8"
ANCHOR = "nchwc.Conv/1x16x16x16/1x16x16x16/k3x3.s1x1.g1.d1x1"
TRUE_MS = {CONV: 0.4, POOL: 0.03, REORDER: 0.02, ANCHOR: 0.02, "read": 0.004}
BASE_MS = 0.01
WANTED = {"networks": [[CONV, POOL]]}


@pytest.fixture
def profiled(api, lab):
    """A table of the space, with kernel prices of its own."""
    from_space = {"Add/1x4x8x8/1x4x8x8": 1}
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    api.put("/v1/runs/run-1", to_wire(lab.run()))
    counts = {task.graph: from_space for task in lab.plan.tasks if task.role != "marginal"}
    api.put("/v1/runs/run-1/kernels", {"counts": counts})
    api.post("/v1/runs/run-1/measurements", {"measurements": to_wire(lab.measure_all())})
    assert api.post("/v1/runs/run-1/finish", {"plan": to_wire(lab.plan)}).status_code == 200
    return read_table(api.get("/v1/devices/pi/table").json())


def plan_of(api, body=WANTED):
    answer = api.post("/v1/devices/pi/kernels/plan", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def made_of(reference):
    """What this made-up device makes of a graph: side by side every result is read, pools bring a reorder."""
    spec = parse_graph_spec(reference)
    kernel = str(spec.kernel)
    counts = {kernel: spec.copies}
    if kernel in (CONV, POOL, REORDER) or spec.probed:
        counts["nchwc.MaxPool/1x32x4x4/1x32x1x1/k1x1.s4x4"] = spec.copies
    if kernel == POOL:
        counts[REORDER] = spec.copies
    return counts


def time_ms(counts):
    return BASE_MS + sum(n * TRUE_MS["read" if "1x1/k1x1" in kernel else kernel] for kernel, n in counts.items())


def measure(api, lab, plan, run_id="run-k"):
    tasks = plan.tasks
    run = lab.run(run_id, plan_id=plan.id, space=plan.space)
    assert api.put(f"/v1/runs/{run_id}", to_wire(run)).status_code == 201
    measured, counts = [], {}
    for index, task in enumerate(tasks):
        counts |= {graph: made_of(graph) for graph in task.graphs}
        long, short = (time_ms(counts[graph]) for graph in task.graphs)
        rounds = tuple(
            Round((long * (1 + 0.001 * wobble),), (2.0,), (short * (1 + 0.001 * wobble),)) for wobble in range(-3, 4)
        )
        identity = f"kernel-{index}"
        measured.append(
            Measurement(identity, task.subject, "kernel", task.graph, task.minus, task.divisor, rounds, Verdict(True))
        )
    assert api.put(f"/v1/runs/{run_id}/kernels", {"counts": counts}).status_code == 200
    answer = api.post(f"/v1/runs/{run_id}/measurements", {"measurements": to_wire(measured)})
    assert answer.status_code == 200, answer.text
    answer = api.post(f"/v1/runs/{run_id}/finish", {"plan": to_wire(plan)})
    assert answer.status_code == 200, answer.text
    return answer.json()["table"]


def test_a_plan_holds_what_the_table_lacks_with_what_comes_along(api, profiled):
    plan = from_wire(Plan, plan_of(api)["plan"])
    assert {task.subject for task in plan.tasks} == {CONV, POOL, REORDER, ANCHOR}
    assert plan.space == profiled.space


def test_measured_kernels_predict_and_the_table_before_keeps_its_bytes(api, lab, profiled):
    before = api.get(f"/v1/tables/{profiled.hash}").content
    network = {CONV: 2, POOL: 1}
    lacking = api.post("/v1/devices/pi/predict", {"kernels": network})
    assert lacking.status_code == 422
    assert lacking.json()["error"]["detail"]["kernels"] == [CONV, POOL]
    assert "measure-kernels" in lacking.json()["error"]["message"]

    table = measure(api, lab, from_wire(Plan, plan_of(api)["plan"]))

    assert table["hash"] != profiled.hash
    assert api.get(f"/v1/tables/{profiled.hash}").content == before
    answer = api.post("/v1/devices/pi/predict", {"kernels": network}).json()
    assert answer["mean_ms"] == pytest.approx(BASE_MS + 2 * TRUE_MS[CONV] + TRUE_MS[POOL], rel=0.03)
    assert answer["upper_ms"] > answer["mean_ms"]
    assert (answer["guessed"], answer["table"]) == ([], table["hash"])
    again = plan_of(api)
    assert again["plan"] is None
    assert again["known"] == sorted([CONV, POOL])


def test_a_space_s_own_networks_are_predicted_as_before(api, lab, profiled):
    own = {"kernels": {"Add/1x4x8x8/1x4x8x8": 1}}
    before = api.post("/v1/devices/pi/predict", own).json()
    measure(api, lab, from_wire(Plan, plan_of(api)["plan"]))
    after = api.post("/v1/devices/pi/predict", own).json()
    assert {**before, "table": ""} == {**after, "table": ""}
    assert plan_of(api, {"networks": [list(own["kernels"])]})["plan"] is None


def test_a_new_campaign_keeps_the_kernels_that_were_measured_before(api, lab, profiled):
    measure(api, lab, from_wire(Plan, plan_of(api)["plan"]))
    run = lab.run("run-2", started_at="2026-01-02T00:00:00+00:00")
    api.put("/v1/runs/run-2", to_wire(run))
    api.post("/v1/runs/run-2/measurements", {"measurements": to_wire(lab.measure_all())})
    assert api.post("/v1/runs/run-2/finish", {"plan": to_wire(lab.plan)}).status_code == 200
    newest = read_table(api.get("/v1/devices/pi/table").json())
    assert newest.runs == ("run-2",)
    assert CONV in newest.single_kernels.index


def test_a_kernel_of_a_measured_kind_is_guessed_and_named(api, lab, profiled):
    measure(api, lab, from_wire(Plan, plan_of(api)["plan"]))
    like = CONV.replace("1x16x8x8/1x32x4x4", "1x16x16x16/1x32x8x8")
    answer = api.post("/v1/devices/pi/predict", {"kernels": {like: 1, POOL: 1}}).json()
    assert answer["guessed"] == [like]
    assert answer["sd_ms"] > 0.05 * answer["mean_ms"]


def test_what_cannot_be_measured_alone_is_named_and_the_rest_is_planned(api, profiled):
    answer = plan_of(api, {"networks": [[CONV, "LSTM/1x4x8/1x4x8"]]})
    assert list(answer["refused"]) == ["LSTM/1x4x8/1x4x8"]
    assert answer["plan"] is not None


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/devices/no/kernels/plan", WANTED, 404, "unknown device"),
        ("/v1/devices/pi/kernels/plan", {**WANTED, "space": "darts"}, 404, "profiler-agent profile"),
        ("/v1/devices/pi/kernels/plan", {"networks": []}, 422, "0 kernels"),
        ("/v1/devices/pi/kernels/plan", {"networks": [["nonsense"]]}, 422, "nonsense"),
    ],
)
def test_wrong_questions_are_refused_with_what_to_do(api, profiled, path, body, status, words):
    answer = api.post(path, body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_a_measurement_of_another_kernel_than_its_graph_s_is_refused(api, lab, profiled):
    plan = from_wire(Plan, plan_of(api)["plan"])
    api.put("/v1/runs/run-k", to_wire(lab.run("run-k", plan_id=plan.id, space=plan.space)))
    task = next(task for task in plan.tasks if task.subject == CONV)
    rounds = (Round((1.0,), (2.0,), (0.5,)),)
    wrong = Measurement("m", POOL, "kernel", task.graph, task.minus, task.divisor, rounds, Verdict(True))
    answer = api.post("/v1/runs/run-k/measurements", {"measurements": to_wire([wrong])})
    assert answer.status_code == 422
