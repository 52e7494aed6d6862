"""Kernels measured one by one: planned by what the table lacks, fitted, added to the table beside its own prices."""

import pytest

from shared.kernels.kernel import parse_kernel
from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.measurement import Measurement, Round, Verdict
from shared.measurements.plan import Plan, kernel_task
from shared.tables.table import read_table
from shared.wire import to_wire

CONV = "nchwc.Conv/1x16x8x8,w32x16x3x3,w32/1x32x4x4/activation=Relu;strides=2x2"
POOL = "nchwc.MaxPool/1x16x8x8/1x16x4x4/kernel_shape=2x2;strides=2x2"
HUGE = "Gemm/1x25088,w4096x25088/1x4096/transB=1"
TRUE_MS = {CONV: 0.4, POOL: 0.03, HUGE: 40.0}
BASE_MS = 0.01
WANTED = {"networks": [[CONV, POOL]]}


@pytest.fixture
def profiled(api, lab):
    """A table of the space, with kernel prices of its own."""
    from_space = {"Add/1x4x8x8,1x4x8x8/1x4x8x8": 1}
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    api.put("/v1/runs/run-1", to_wire(lab.run()))
    counts = {task.graph: from_space for task in lab.plan.tasks if task.role != "marginal"}
    api.put("/v1/runs/run-1/kernels", {"counts": counts})
    api.post("/v1/runs/run-1/measurements", {"measurements": to_wire(lab.measure_all())})
    assert api.post("/v1/runs/run-1/finish", {"plan": to_wire(lab.plan)}).status_code == 200
    return read_table(api.get("/v1/devices/pi/table").json())


def lacking(api, body=WANTED):
    answer = api.post("/v1/devices/pi/kernels/missing", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def plan_of(answer):
    """What an agent makes of the answer."""
    tasks = tuple(kernel_task(parse_kernel(kernel)) for kernel in answer["missing"])
    return Plan(answer["space"], tasks, answer["canary"])


def made_of(reference):
    spec = parse_graph_spec(reference)
    return {str(spec.kernel): spec.copies}


def time_ms(counts):
    return BASE_MS + sum(n * TRUE_MS[kernel] for kernel, n in counts.items())


def measure(api, lab, plan, run_id="run-k"):
    tasks = plan.tasks
    run = lab.run(run_id, plan_id=plan.id, space=plan.space)
    assert api.put(f"/v1/runs/{run_id}", to_wire(run)).status_code == 201
    measured, counts = [], {}
    for index, task in enumerate(tasks):
        counts |= {graph: made_of(graph) for graph in task.graphs}
        long, *short = (time_ms(counts[graph]) for graph in task.graphs)
        rounds = tuple(
            Round((long * (1 + 0.001 * wobble),), (2.0,), tuple(ms * (1 + 0.001 * wobble) for ms in short))
            for wobble in range(-3, 4)
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


def test_what_the_table_lacks_is_named_with_the_table_s_space_and_canary(api, lab, profiled):
    answer = lacking(api)
    assert answer["missing"] == sorted([CONV, POOL])
    assert (answer["space"], answer["canary"], answer["table"]) == (profiled.space, lab.plan.canary, profiled.hash)


def test_a_kernel_too_large_to_be_repeated_is_measured_by_itself(api, lab, profiled):
    measure(api, lab, plan_of(lacking(api, {"networks": [[CONV, HUGE]]})))
    answer = api.post("/v1/devices/pi/predict", {"kernels": {HUGE: 1}}).json()
    assert answer["mean_ms"] == pytest.approx(TRUE_MS[HUGE], rel=0.03)


def test_a_graph_that_did_not_hold_its_kernel_alone_gives_no_price(api, lab, profiled, monkeypatch):
    seen = made_of
    monkeypatch.setitem(globals(), "made_of", lambda one: {**seen(one), **({"Relu/1x4/1x4": 1} if POOL in one else {})})
    TRUE_MS["Relu/1x4/1x4"] = 0.02
    measure(api, lab, plan_of(lacking(api)))
    assert lacking(api)["missing"] == [POOL]


def test_a_sequence_that_a_kernel_reads_is_no_part_of_its_price(api, lab, profiled, monkeypatch):
    seen, made = made_of, "SequenceConstruct/1x4/1.seq"
    monkeypatch.setitem(globals(), "made_of", lambda one: {**seen(one), **({made: 1} if POOL in one else {})})
    monkeypatch.setitem(TRUE_MS, made, 0.02)
    made_table = measure(api, lab, plan_of(lacking(api)))["hash"]
    prices = api.get(f"/v1/tables/{made_table}").json()["single_kernels"]["prices"]
    (price,) = (each["price_ms"] for each in prices if each["kernel"] == POOL)
    assert price == pytest.approx(TRUE_MS[POOL], rel=0.05)


def test_measured_kernels_predict_and_the_table_before_keeps_its_bytes(api, lab, profiled):
    before = api.get(f"/v1/tables/{profiled.hash}").content
    network = {CONV: 2, POOL: 1}
    refused = api.post("/v1/devices/pi/predict", {"kernels": network})
    assert refused.status_code == 422
    assert refused.json()["error"]["detail"]["kernels"] == [CONV, POOL]
    assert "measure-kernels" in refused.json()["error"]["message"]

    table = measure(api, lab, plan_of(lacking(api)))

    assert table["hash"] != profiled.hash
    assert api.get(f"/v1/tables/{profiled.hash}").content == before
    answer = api.post("/v1/devices/pi/predict", {"kernels": network}).json()
    assert answer["mean_ms"] == pytest.approx(BASE_MS + 2 * TRUE_MS[CONV] + TRUE_MS[POOL], rel=0.03)
    assert answer["upper_ms"] > answer["mean_ms"]
    assert (answer["guessed"], answer["table"]) == ([], table["hash"])
    again = lacking(api)
    assert again["missing"] == []
    assert again["known"] == sorted([CONV, POOL])


def test_a_space_s_own_networks_are_predicted_as_before(api, lab, profiled):
    own = {"kernels": {"Add/1x4x8x8,1x4x8x8/1x4x8x8": 1}}
    before = api.post("/v1/devices/pi/predict", own).json()
    measure(api, lab, plan_of(lacking(api)))
    after = api.post("/v1/devices/pi/predict", own).json()
    assert {**before, "table": ""} == {**after, "table": ""}
    assert lacking(api, {"networks": [list(own["kernels"])]})["missing"] == []


def test_a_new_campaign_keeps_the_kernels_that_were_measured_before(api, lab, profiled):
    measure(api, lab, plan_of(lacking(api)))
    run = lab.run("run-2", started_at="2026-01-02T00:00:00+00:00")
    api.put("/v1/runs/run-2", to_wire(run))
    api.post("/v1/runs/run-2/measurements", {"measurements": to_wire(lab.measure_all())})
    assert api.post("/v1/runs/run-2/finish", {"plan": to_wire(lab.plan)}).status_code == 200
    newest = read_table(api.get("/v1/devices/pi/table").json())
    assert newest.runs == ("run-2",)
    assert CONV in newest.single_kernels.index


def test_a_kernel_of_a_measured_kind_is_guessed_and_named(api, lab, profiled):
    measure(api, lab, plan_of(lacking(api)))
    like = CONV.replace("1x16x8x8", "1x16x16x16").replace("1x32x4x4", "1x32x8x8")
    answer = api.post("/v1/devices/pi/predict", {"kernels": {like: 1, POOL: 1}}).json()
    assert answer["guessed"] == [like]
    assert answer["sd_ms"] > 0.05 * answer["mean_ms"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/devices/no/kernels/missing", WANTED, 404, "unknown device"),
        ("/v1/devices/pi/kernels/missing", {**WANTED, "space": "darts"}, 404, "profiler-agent profile"),
        ("/v1/devices/pi/kernels/missing", {"networks": []}, 422, "0 kernels"),
        ("/v1/devices/pi/kernels/missing", {"networks": [[]] * 10_001}, 422, "10001 are more than 10000"),
        ("/v1/devices/pi/kernels/missing", {"networks": [["nonsense"]]}, 422, "nonsense"),
    ],
)
def test_wrong_questions_are_refused_with_what_to_do(api, profiled, path, body, status, words):
    answer = api.post(path, body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_a_measurement_of_another_kernel_than_its_graph_s_is_refused(api, lab, profiled):
    plan = plan_of(lacking(api))
    api.put("/v1/runs/run-k", to_wire(lab.run("run-k", plan_id=plan.id, space=plan.space)))
    task = next(task for task in plan.tasks if task.subject == CONV)
    rounds = (Round((1.0,), (2.0,), (0.5,)),)
    wrong = Measurement("m", POOL, "kernel", task.graph, task.minus, task.divisor, rounds, Verdict(True))
    answer = api.post("/v1/runs/run-k/measurements", {"measurements": to_wire([wrong])})
    assert answer.status_code == 422
