"""Kernel counts over HTTP: from a run into its table, from a count job, and into predictions."""

import pytest

from shared.jobs import NewJob
from shared.measurements.graph_spec import NetworkGraph
from shared.tables.table import read_table
from shared.wire import to_wire

KERNEL_OF = {
    "skip_connect": "Add",
    "avg_pool_3x3": "nchwc.AveragePool",
    "nor_conv_1x1": "nchwc.Conv",
    "nor_conv_3x3": "nchwc.Conv",
}


def kernel(key):
    shape = "1x" + str(key.input)
    side = 3 if key.primitive.endswith("3x3") else 1
    channels = key.input.channels
    weights = {"Add": f",{shape}", "nchwc.AveragePool": ""}
    read = weights.get(KERNEL_OF[key.primitive], f",w{channels}x{channels}x{side}x{side}")
    return f"{KERNEL_OF[key.primitive]}/{shape}{read}/{shape}"


def counts_of(lab, genotype):
    found = {"Gemm/1x64,w10x64/1x10/transB=1": 1}
    for key, n in lab.space.op_counts(genotype).items():
        found[kernel(key)] = found.get(kernel(key), 0) + n
    return found


def network_counts(lab):
    tasks = [task for task in lab.plan.tasks if task.role != "marginal"]
    return {task.graph: counts_of(lab, lab.space.parse(task.subject)) for task in tasks}


@pytest.fixture
def profiled(api, lab):
    """A finished run with kernels; the device's table."""
    assert api.post("/v1/devices", {"name": "pi", "probe": {}}).status_code == 201
    assert api.put("/v1/runs/run-1", to_wire(lab.run())).status_code == 201
    body = {"counts": network_counts(lab)}
    first, again = (api.put("/v1/runs/run-1/kernels", body) for _ in range(2))
    assert first.json() == {"stored": len(body["counts"]), "known": 0}
    assert again.json() == {"stored": 0, "known": len(body["counts"])}
    api.post("/v1/runs/run-1/measurements", {"measurements": to_wire(lab.measure_all())})
    assert api.post("/v1/runs/run-1/finish", {"plan": to_wire(lab.plan)}).status_code == 200
    return read_table(api.get("/v1/devices/pi/table").json())


def test_a_run_with_kernels_makes_a_table_with_kernel_prices_that_know_their_error(api, lab, profiled) -> None:
    assert profiled.kernels.held_out.networks == 4
    assert profiled.kernels.held_out.mape_percent < 5
    for task in lab.plan.tasks:
        if task.role == "calibration":
            predicted = profiled.predict_kernels(counts_of(lab, lab.space.parse(task.subject)))
            assert predicted.mean_ms == pytest.approx(lab.latency_ms(task), rel=0.05)


def test_counts_are_given_by_genotype(api, lab, profiled) -> None:
    query = {"device": "pi", "space": str(lab.space), "runtime": str(lab.runtime)}
    found = api.get("/v1/kernels", params=query).json()["counts"]
    fastest = lab.space.fastest()
    assert found[lab.space.format(fastest)] == counts_of(lab, fastest)
    assert len(found) == len(network_counts(lab))
    assert api.get("/v1/kernels", params={**query, "device": "pear"}).status_code == 404
    assert api.get("/v1/kernels", params={**query, "runtime": "x"}).status_code == 422


def test_a_known_network_is_predicted_by_kernels_and_another_one_by_ops(api, lab, profiled) -> None:
    known = lab.space.format(lab.space.fastest())
    answer = api.post("/v1/devices/pi/predict", {"genotype": known}).json()
    assert answer["by"] == "kernels"
    assert answer["mean_ms"] < answer["upper_ms"]
    measured = set(network_counts(lab))
    other = lab.space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|")
    assert str(NetworkGraph(lab.space, other)) not in measured
    answer = api.post("/v1/devices/pi/predict", {"genotype": lab.space.format(other)}).json()
    assert answer["by"] == "ops"


def test_kernels_never_measured_are_guessed_and_named_and_those_of_a_new_kind_refused(api, lab, profiled) -> None:
    new = "nchwc.AveragePool/1x6x10x10/1x6x10x10"
    answer = api.post("/v1/devices/pi/predict", {"kernels": {new: 2}}).json()
    assert answer["guessed"] == [new]
    refusal = api.post("/v1/devices/pi/predict", {"kernels": {"Softmax/1x10/1x10": 1}})
    assert refusal.status_code == 422
    assert refusal.json()["error"]["detail"] == {"kernels": ["Softmax/1x10/1x10"]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"genotype": "|x|", "kernels": {"Add/1x2/1x2": 1}},
        {"graph": "model:x", "kernels": {"Add/1x2/1x2": 1}},
        {"genotype": "|x|"},
        {"kernels": {}},
        {"kernels": {"nonsense": 1}},
        {"kernels": {"Add/1x2/1x2": 0}},
        {"kernels": {"Conv/1x2x2x2/1x2x2x2": 1}},
    ],
)
def test_a_prediction_that_cannot_be_is_refused(api, profiled, body) -> None:
    assert api.post("/v1/devices/pi/predict", body).status_code == 422


def test_a_count_job_brings_counts_that_later_predictions_use(api, lab, profiled) -> None:
    genotype = lab.space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|")
    name = lab.space.format(lab.space.canonical(genotype))
    new = NewJob("pi", "count", lab.runtime, lab.plan.canary, str(lab.space), genotypes=(name,))
    job = api.post("/v1/jobs", to_wire(new)).json()["job"]
    stranger = {"owner": "a", "result": {"kernels": {lab.space.format(lab.space.fastest()) + "x": {"Add/1x2/1x2": 1}}}}
    assert api.post(f"/v1/jobs/{job['id']}/result", stranger).status_code == 422
    result = {"kernels": {name: counts_of(lab, genotype)}, "runtime": to_wire(lab.runtime)}
    done = api.post(f"/v1/jobs/{job['id']}/result", {"owner": "a", "result": result})
    assert done.json()["job"]["state"] == "done"
    assert api.post("/v1/devices/pi/predict", {"genotype": name}).json()["by"] == "kernels"


def test_a_graph_is_predicted_once_a_job_counted_its_kernels(api, lab, profiled) -> None:
    genotype = lab.space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|")
    graph, counts = str(NetworkGraph(lab.space, genotype)), counts_of(lab, genotype)
    before = api.post("/v1/devices/pi/predict", {"graph": graph})
    assert (before.status_code, before.json()["error"]["code"]) == (404, "unknown_model")
    new = NewJob("pi", "count", lab.runtime, lab.plan.canary, str(lab.space), graph=graph)
    job = api.post("/v1/jobs", to_wire(new)).json()["job"]
    both = {**to_wire(new), "genotypes": [lab.space.format(genotype)]}
    assert api.post("/v1/jobs", both).status_code == 422
    stranger = {"owner": "a", "result": {"kernels": {"model:x": counts}}}
    assert api.post(f"/v1/jobs/{job['id']}/result", stranger).status_code == 422
    result = {"kernels": {graph: counts}, "runtime": to_wire(lab.runtime)}
    assert api.post(f"/v1/jobs/{job['id']}/result", {"owner": "a", "result": result}).status_code == 200
    by_graph = api.post("/v1/devices/pi/predict", {"graph": graph})
    assert by_graph.json() == api.post("/v1/devices/pi/predict", {"kernels": counts}).json()


@pytest.mark.parametrize("genotypes", [(), ("nonsense",)])
def test_a_count_job_for_what_is_no_network_is_refused(api, lab, profiled, genotypes) -> None:
    job = to_wire(NewJob("pi", "count", lab.runtime, lab.plan.canary, str(lab.space), genotypes=("|a|",)))
    job["genotypes"] = list(genotypes)
    assert api.post("/v1/jobs", job).status_code == 422


def test_a_run_without_kernels_makes_a_table_without_kernel_prices(api, lab) -> None:
    lab.profile(api)
    table = api.get("/v1/devices/pi/table").json()
    assert table["kernels"] is None
    assert read_table(table).kernels is None
