"""Two agents as one device, clocks that lie, spaces that the server does not know."""

from shared.wire import to_wire


def put_run(api, lab, run_id, **more):
    return api.put(f"/v1/runs/{run_id}", to_wire(lab.run(run_id, **more)))


def finish(api, lab, run_id, canary_ms=2.0):
    batch = [to_wire(one) for one in lab.measure_all(canary_ms=canary_ms)]
    assert api.post(f"/v1/runs/{run_id}/measurements", {"measurements": batch}).status_code == 200
    answer = api.post(f"/v1/runs/{run_id}/finish", {"plan": to_wire(lab.plan)})
    assert answer.status_code == 200, answer.text
    return answer.json()["table"]


def test_two_agents_may_serve_one_device_and_are_told_apart(api, lab):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    for name in ("left", "right"):
        assert put_run(api, lab, f"run-{name}", probe={"host": name}).status_code == 201
    tables = {name: finish(api, lab, f"run-{name}") for name in ("left", "right")}
    runs = api.get("/v1/runs?device=pi").json()["runs"]
    assert [(one["run"]["id"], one["run"]["probe"]["host"]) for one in runs] == [
        ("run-left", "left"),
        ("run-right", "right"),
    ]
    assert tables["left"]["hash"] != tables["right"]["hash"]
    api.post("/v1/jobs", to_wire(lab.verify_job(tables["left"])))
    lease = {"device": "pi", "lease_s": 60}
    job = api.post("/v1/jobs/lease", {**lease, "owner": "left-1"}).json()["job"]
    assert api.post("/v1/jobs/lease", {**lease, "owner": "right-1"}).json()["job"] is None
    beat = api.post(f"/v1/jobs/{job['id']}/heartbeat", {"owner": "right-1", "lease_s": 60})
    assert beat.status_code == 409
    assert "left-1" in beat.json()["error"]["message"]


def test_a_run_from_a_clock_a_year_ahead_does_not_stay_the_newest(api, lab):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    put_run(api, lab, "run-ahead", started_at="2027-06-01T00:00:00+00:00")
    finish(api, lab, "run-ahead")
    api.clock.advance(10)
    put_run(api, lab, "run-right", started_at="2026-01-01T00:00:10+00:00")
    right = finish(api, lab, "run-right")
    answer = api.get("/v1/devices/pi/table", params={"space": "nas-bench-201"})
    assert answer.headers["etag"] == f'"{right["hash"]}"'


def test_a_run_of_a_space_that_the_server_does_not_know_is_refused_by_name(api, lab):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    body = {**to_wire(lab.run("run-1")), "space": "kettle/r8/c4/n1/k10/i3"}
    answer = api.put("/v1/runs/run-1", body)
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert "kettle" in message
    assert "nas-bench-201" in message
    assert api.get("/v1/runs").json() == {"runs": []}
