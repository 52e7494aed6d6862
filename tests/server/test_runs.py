"""The main job over HTTP: devices, plans, graphs, runs, tables."""

import dataclasses
import hashlib
import json

import onnx
import pytest

from shared.graphs import build_network
from shared.measurements.plan import Plan
from shared.tables.table import read_table
from shared.wire import from_wire, to_wire


def test_device_is_registered_once_and_renewed_after_that(api):
    first = api.post("/v1/devices", {"name": "pi", "probe": {"cpu": "old"}})
    api.clock.advance(60)
    second = api.post("/v1/devices", {"name": "pi", "probe": {"cpu": "new"}})
    assert (first.status_code, second.status_code) == (201, 200)
    device = second.json()["device"]
    assert device["probe"] == {"cpu": "new"}
    assert device["created_at"] == first.json()["device"]["created_at"] < device["last_seen_at"]
    assert api.get("/v1/devices").json()["devices"] == [device]
    assert api.get("/v1/devices/pi").json() == {"device": {**device, "tables": []}}


def test_unknown_device_names_the_known_ones_and_the_command_that_would_measure_it(api):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    error = api.get("/v1/devices/pear").json()["error"]
    assert error["code"] == "unknown_device"
    assert "known: pi" in error["message"]
    assert "profiler-agent profile --lut-url URL --device pear" in error["message"]


def test_plan_is_that_of_the_shared_code_and_the_same_each_time(steady_api, lab):
    path = f"/v1/plan?space={lab.space}&calibration=8&held_out=4&seed=0"
    plan = from_wire(Plan, steady_api.get(path).json()["plan"])
    assert plan == lab.plan
    assert steady_api.get(path).content == steady_api.get(path).content


def test_graph_is_onnx_with_its_hash_as_etag_and_is_not_sent_twice(steady_api, lab):
    for spec in (lab.plan.canary, lab.plan.tasks[0].graph, lab.plan.tasks[-1].graph):
        answer = steady_api.get("/v1/graph", params={"spec": spec, "batch": 2})
        onnx.checker.check_model(answer.content)
        etag = answer.headers["etag"]
        assert etag == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert "content-encoding" not in answer.headers
        again = steady_api.get("/v1/graph", params={"spec": spec, "batch": 2}, headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")


def test_graph_is_served_in_each_precision_under_the_hash_of_its_own_bytes(steady_api, lab):
    spec = lab.plan.tasks[-1].graph
    plain = steady_api.get("/v1/graph", params={"spec": spec})
    assert plain.content == steady_api.get("/v1/graph", params={"spec": spec, "precision": "fp32"}).content
    for precision in ("fp16", "int8"):
        query = {"spec": spec, "precision": precision}
        answer = steady_api.get("/v1/graph", params=query, headers={"If-None-Match": plain.headers["etag"]})
        onnx.checker.check_model(answer.content)
        etag = f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert answer.headers["etag"] == etag
        again = steady_api.get("/v1/graph", params=query, headers={"If-None-Match": etag})
        assert again.status_code == 304
    canary = steady_api.get("/v1/graph", params={"spec": lab.plan.canary, "precision": "int8"})
    assert canary.content == steady_api.get("/v1/graph", params={"spec": lab.plan.canary}).content


def test_graph_whose_weights_would_fill_the_memory_is_refused(steady_api):
    spec = "chain:8:nor_conv_3x3/60000x8x8/60000x8x8/s1"
    answer = steady_api.get("/v1/graph", params={"spec": spec})
    assert answer.status_code == 422
    assert "the limit is 256 MiB (setting max_graph_mb)" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "spec", ["", "teapot:1", "chain:0:x", "canary:none", "chain:2:teapot/1x1x1/1x1x1/s1", "model:1"]
)
def test_graph_reference_that_cannot_be_built_is_refused(steady_api, spec):
    answer = steady_api.get("/v1/graph", params={"spec": spec})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


def test_uploaded_model_is_served_as_the_bytes_it_was(api, lab):
    content = build_network(lab.space, lab.space.fastest())
    path = f"/v1/models/{hashlib.sha256(content).hexdigest()}"
    first, second = api.put(path, content=content), api.put(path, content=content)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["model"]["bytes"] == len(content)
    assert api.get("/v1/graph", params={"spec": path.replace("/v1/models/", "model:")}).content == content


def test_model_under_a_wrong_hash_or_that_is_no_onnx_is_refused(steady_api):
    answer = steady_api.put("/v1/models/" + "0" * 64, content=b"kettle")
    assert "is not that of the body" in answer.json()["error"]["message"]
    for content in (b"kettle", b"", b"\x08\x07"):
        digest = hashlib.sha256(content).hexdigest()
        answer = steady_api.put(f"/v1/models/{digest}", content=content)
        assert answer.status_code == 422
        assert "is not a valid ONNX file" in answer.json()["error"]["message"]
        assert (
            steady_api.get("/v1/graph", params={"spec": f"model:{digest}"}).json()["error"]["code"] == "unknown_model"
        )


def test_campaign_ends_in_a_table_that_knows_the_true_prices(api, lab):
    summary = lab.profile(api)
    assert summary["canary_nominal_ms"] == 2.0
    assert summary["held_out"]["networks"] == 4
    assert summary["held_out"]["mape_percent"] < 2
    answer = api.get(f"/v1/devices/pi/table?space={lab.space}")
    table = read_table(answer.json())
    assert table.hash == summary["hash"] == hashlib.sha256(answer.content).hexdigest()
    assert table.runs == ("run-1",)
    for price in table.prices:
        assert price.marginal_ms == pytest.approx(
            lab.price_ms(next(k for k in lab.space.op_keys() if str(k) == price.op_key)), rel=0.01
        )
    assert api.get("/v1/tables?device=pi").json()["tables"] == [summary]
    assert api.get("/v1/devices/pi").json()["device"]["tables"] == [summary]
    stored = api.get("/v1/runs?device=pi").json()["runs"]
    assert [(run["finished"], run["table"], run["measurements"]) for run in stored] == [
        (True, summary["hash"], len(lab.plan.tasks))
    ]


def test_raw_values_come_back_as_they_were_sent(api, lab):
    lab.profile(api)
    assert api.get("/v1/runs/run-1/measurements").json()["measurements"] == to_wire(lab.measure_all())


def test_table_has_its_hash_as_etag_is_compressed_and_not_sent_twice(api, lab):
    summary = lab.profile(api)
    for path in ("/v1/devices/pi/table?space=nas-bench-201", f"/v1/tables/{summary['hash']}"):
        answer = api.get(path)
        assert answer.headers["etag"] == f'"{summary["hash"]}"'
        assert answer.headers["content-encoding"] == "gzip"
        assert api.get(path, headers={"If-None-Match": f'"x", W/{answer.headers["etag"]}'}).status_code == 304
        assert api.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize("space", ["nas-bench-201", "nas-bench-201/r8", "nas-bench-201/r8/c4/", ""])
def test_space_may_leave_out_its_trailing_parts(api, lab, space):
    summary = lab.profile(api)
    assert api.get(f"/v1/devices/pi/table?space={space}").headers["etag"] == f'"{summary["hash"]}"'


@pytest.mark.parametrize(
    ("query", "command"),
    [
        ("space=nas-bench-201/r80", "--resolution 80"),
        ("space=nas-bench-201/r8/c40", "--resolution 8 --channels 40"),
        ("space=nas-bench-201/r", "--space nas-bench-201 "),
        ("space=no-such-space", "--space nas-bench-201 "),
        ("space=nas-bench-201&runtime=tea-1/x/fp32/threads=1/opt=all/batch=1", "--resolution 32"),
    ],
)
def test_missing_table_names_what_exists_and_the_command_that_would_measure_it(api, lab, query, command):
    lab.profile(api)
    answer = api.get(f"/v1/devices/pi/table?{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_table")
    message = answer.json()["error"]["message"]
    assert f"{lab.space} on {lab.runtime}" in message
    assert "profiler-agent profile --lut-url URL --device pi" in message
    assert command in message


def test_newest_table_wins_and_the_older_one_stays_under_its_hash(api, lab):
    older = lab.profile(api)
    before = api.get(f"/v1/tables/{older['hash']}").content
    newer = lab.profile(api, "run-2")
    assert newer["hash"] != older["hash"]
    assert api.get("/v1/devices/pi/table?space=nas-bench-201").headers["etag"] == f'"{newer["hash"]}"'
    assert api.get(f"/v1/tables/{older['hash']}").content == before


def test_canary_nominal_time_is_set_by_the_first_run_and_kept(api, lab):
    first = lab.profile(api, canary_ms=2.0)
    second = lab.profile(api, "run-2", canary_ms=2.5)  # the machine is slower today: ratios count, not its clock
    assert (first["canary_nominal_ms"], second["canary_nominal_ms"]) == (2.0, 2.0)
    other = lab.profile(api, "run-3", device="phone", canary_ms=2.5)
    assert other["canary_nominal_ms"] == 2.5


def test_every_precision_of_a_device_is_told_in_the_canary_of_the_first(api, lab):
    first = lab.profile(api, canary_ms=2.0)
    lab.runtime = dataclasses.replace(lab.runtime, precision="int8")
    second = lab.profile(api, "run-2", canary_ms=2.5)
    assert (first["canary_nominal_ms"], second["canary_nominal_ms"]) == (2.0, 2.0)
    plain = api.get("/v1/devices/pi/table")
    assert plain.headers["etag"] == f'"{first["hash"]}"'
    of_int8 = api.get("/v1/devices/pi/table", params={"runtime": str(lab.runtime)})
    assert of_int8.headers["etag"] == f'"{second["hash"]}"'
    missing = api.get("/v1/devices/pi/table", params={"runtime": str(lab.runtime).replace("int8", "fp16")})
    assert missing.json()["error"]["message"].endswith("--precision fp16")


def test_finishing_again_gives_the_same_table(api, lab):
    summary = lab.profile(api)
    api.clock.advance(60)
    again = api.post("/v1/runs/run-1/finish", {"plan": to_wire(lab.plan)})
    assert again.json()["table"] == summary
    assert len(api.get("/v1/tables").json()["tables"]) == 1


def start_run(api, lab, run_id="run-1"):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    return api.put(f"/v1/runs/{run_id}", to_wire(lab.run(run_id)))


def test_run_that_lacks_measurements_is_not_finished_and_says_how_many(api, lab):
    start_run(api, lab)
    api.post("/v1/runs/run-1/measurements", {"measurements": to_wire(lab.measure_all()[2:])})
    answer = api.post("/v1/runs/run-1/finish", {"plan": to_wire(lab.plan)})
    assert answer.status_code == 422
    assert f"2 of the plan's {len(lab.plan.tasks)} tasks have no measurement yet" in answer.json()["error"]["message"]
    assert api.get("/v1/tables").json() == {"tables": []}


def test_run_is_finished_with_its_own_plan_only(api, lab):
    start_run(api, lab)
    api.post("/v1/runs/run-1/measurements", {"measurements": to_wire(lab.measure_all())})
    plan = {**to_wire(lab.plan), "seed": 9}
    assert api.post("/v1/runs/run-1/finish", {"plan": plan}).status_code == 422
    answer = api.post("/v1/runs/run-1/finish", {"plan": {**to_wire(lab.plan), "schema": 1}})
    assert answer.status_code == 422
    assert "plan has schema 1, this lutnas reads schema 10" in answer.json()["error"]["message"]


def test_run_is_stored_once_and_other_content_under_its_id_is_a_conflict(api, lab):
    assert start_run(api, lab).status_code == 201
    assert start_run(api, lab).status_code == 200
    other = api.put("/v1/runs/run-1", {**to_wire(lab.run()), "agent_version": "9"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert api.get("/v1/runs/run-1").json()["run"] == to_wire(lab.run())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"device": "nobody"}, 404),
        ({"id": "run-2"}, 422),
        ({"space": "kettle"}, 422),
        ({"canary": "model:x"}, 422),
        ({"started_at": "yesterday"}, 422),
        ({"runtime": {"engine": "onnxruntime", "version": ""}}, 422),
    ],
)
def test_run_that_makes_no_sense_is_not_stored(api, lab, change, status):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    assert api.put("/v1/runs/run-1", {**to_wire(lab.run()), **change}).status_code == status
    assert api.get("/v1/runs").json() == {"runs": []}


def test_batch_is_stored_whole_or_not_at_all(api, lab):
    start_run(api, lab)
    batch = to_wire(lab.measure_all())
    assert api.post("/v1/runs/run-1/measurements", {"measurements": batch[:3]}).json() == {"stored": 3, "known": 0}
    assert api.post("/v1/runs/run-1/measurements", {"measurements": batch[2:5]}).json() == {"stored": 2, "known": 1}
    changed = json.loads(json.dumps(batch[0]))
    changed["rounds"][0]["graph_ms"] = [99.0]
    conflict = api.post("/v1/runs/run-1/measurements", {"measurements": [*batch[5:], changed]})
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "conflict")
    twice = api.post(
        "/v1/runs/run-1/measurements", {"measurements": [batch[6], {**batch[6], "verdict": {"stable": False}}]}
    )
    assert twice.status_code == 409
    assert api.get("/v1/runs/run-1/measurements").json()["measurements"] == batch[:5]


def test_finished_run_takes_no_new_measurements(api, lab):
    lab.profile(api)
    known = api.post("/v1/runs/run-1/measurements", {"measurements": to_wire(lab.measure_all()[:1])})
    assert known.json() == {"stored": 0, "known": 1}
    new = api.post("/v1/runs/run-1/measurements", {"measurements": [{**to_wire(lab.measure_all()[0]), "id": "late"}]})
    assert new.status_code == 409


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, {"subject": "nor_conv_3x3/7x7x7/7x7x7/s1"}),
        (0, {"subject": "kettle"}),
        (-1, {"subject": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"}),
        (-1, {"subject": "|kettle~0|+|none~0|none~1|+|none~0|none~1|none~2|"}),
        (0, {"role": "kettle"}),
        (0, {"graph": "kettle"}),
        (0, {"rounds": []}),
        (0, {"divisor": 0}),
        (0, {"divisor": 10**400}),
        (0, {"id": ""}),
        (0, {"id": "a" * 81}),
        (0, {"verdict": None}),
    ],
)
def test_measurement_that_makes_no_sense_is_refused_and_its_whole_batch_with_it(steady_api, lab, index, change):
    batch = to_wire(lab.measure_all())
    batch[index] = {**batch[index], **change}
    answer = steady_api.post("/v1/runs/run-1/measurements", {"measurements": batch})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    assert steady_api.get("/v1/runs/run-1").json()["measurements"] == 0


def test_upload_to_an_unknown_run_is_told_so(steady_api):
    for path in ("/v1/runs/none/measurements", "/v1/runs/none"):
        answer = steady_api.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_run")
    assert steady_api.post("/v1/runs/none/measurements", {"measurements": []}).json()["error"]["code"] == "unknown_run"


def test_table_under_an_unknown_hash_is_told_so(steady_api):
    assert steady_api.get("/v1/tables/abc").json()["error"]["code"] == "no_table"


def test_runs_are_listed_in_parts(api, lab):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    api.post("/v1/devices", {"name": "phone", "probe": {}})
    for number in range(5):
        assert api.put(f"/v1/runs/run-{number}", to_wire(lab.run(f"run-{number}"))).status_code == 201
    assert api.put("/v1/runs/other", to_wire(lab.run("other", "phone"))).status_code == 201
    found = [api.get(f"/v1/runs?device=pi&offset={offset}&limit=2").json()["runs"] for offset in (0, 2, 4, 6)]
    assert [[run["run"]["id"] for run in part] for part in found] == [
        ["run-0", "run-1"],
        ["run-2", "run-3"],
        ["run-4"],
        [],
    ]
    assert len(api.get("/v1/runs").json()["runs"]) == 6
    for wrong in ("limit=0", "limit=1001", "offset=-1"):
        assert api.get(f"/v1/runs?{wrong}").status_code == 422
    page = api.get("/devices/pi?format=json").json()
    assert [run["run"]["id"] for run in page["runs"]] == [f"run-{number}" for number in (4, 3, 2, 1, 0)]
    assert page["paging"]["total"] == 5
