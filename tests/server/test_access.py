"""Tokens, roles and the device a token is bound to, over every route that there is."""

import re
from dataclasses import replace

import pytest

from lut_server.auth import ROLES, Authenticator, Principal, create_token
from lut_server.clock import stamp
from lut_server.store.sql import devices, jobs, models
from shared.errors import AccessDenied, Conflict, InvalidValue
from shared.jobs import NewJob
from shared.wire import to_wire


def routes(api):
    """(method, path, role) of every route of the OpenAPI document."""
    paths = api.get("/openapi.json", role=None).json()["paths"]
    return [
        (method.upper(), path.replace("{", "").replace("}", ""), operation["x-role"])
        for path, operations in paths.items()
        for method, operation in operations.items()
    ]


def check_error(answer, status, code):
    assert answer.status_code == status, (answer.request.method, answer.request.url)
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "detail"}
    assert error["code"] == code
    assert "\n" not in error["message"]
    assert error["message"]


def test_every_write_without_a_token_is_refused_and_every_read_is_open(steady_api):
    found = routes(steady_api)
    assert len(found) >= 20
    found.remove(("POST", "/v1/pair", "anyone"))  # it takes a code instead: test_pairing.py
    for method, path, role in found:
        answer = steady_api.call(method, path, role=None, content=b"{}" if method != "GET" else None)
        if role in ("read", "anyone"):
            assert method == "GET" or path.endswith(("/predict", "/kernels/missing")), (
                "only a question too long for a URL is a POST"
            )
            assert answer.status_code not in (401, 403), path
        else:
            check_error(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_every_route_refuses_a_token_that_is_too_weak_before_it_reads_the_body(steady_api):
    for method, path, role in routes(steady_api):
        weaker = ROLES[: ROLES.index(role)] if role in ROLES else ()
        for weak in weaker:
            check_error(steady_api.call(method, path, role=weak, content=b"not json"), 403, "forbidden")


def test_every_read_needs_a_token_where_reads_are_closed(start):
    with start(reads="closed") as api:
        for method, path, role in routes(api):
            if path == "/v1/pair":
                continue
            answer = api.call(method, path, role=None)
            if role == "anyone":
                assert answer.status_code == (404 if path == "/agent/wheels/name" else 200), path
            else:
                check_error(answer, 401, "unauthorized")
        assert api.get("/v1/devices", role="read").status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer x", "Basic abc", "Bearer lut_000000000000_" + "a" * 43, "Bearer lut_\u0663_x".encode()]
)
def test_wrong_token_is_refused_even_where_reads_are_open(steady_api, header):
    answer = steady_api.http.get("/v1/devices", headers={"Authorization": header})
    check_error(answer, 401, "unauthorized")


def test_token_with_one_letter_changed_is_refused(steady_api):
    token = steady_api.token("admin")
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    check_error(steady_api.get("/v1/devices", token=changed), 401, "unauthorized")


def test_revoked_token_is_refused_at_once(api):
    token = create_token(api.store.tokens, "agent")
    assert api.get("/v1/devices", token=token).status_code == 200
    api.store.tokens.revoke(token.split("_")[1])
    answer = api.get("/v1/devices", token=token)
    check_error(answer, 401, "unauthorized")
    assert "revoked" in answer.json()["error"]["message"]


def test_token_bound_to_a_device_may_not_act_for_another(api, lab):
    table = lab.profile(api)
    bound = create_token(api.store.tokens, "agent", device="phone")
    job = api.post("/v1/jobs", to_wire(lab.verify_job(table))).json()["job"]
    lease = {"device": "pi", "owner": "a", "lease_s": 1}
    attempts = [
        api.post("/v1/devices", {"name": "pi", "probe": {}}, token=bound),
        api.put("/v1/runs/run-2", to_wire(lab.run("run-2")), token=bound),
        api.post("/v1/runs/run-1/measurements", {"measurements": []}, token=bound),
        api.post("/v1/runs/run-1/finish", {"plan": to_wire(lab.plan)}, token=bound),
        api.post("/v1/jobs", to_wire(lab.verify_job(table)), token=bound),
        api.post("/v1/jobs/lease", lease, token=bound),
        api.post(f"/v1/jobs/{job['id']}/heartbeat", {"owner": "a", "lease_s": 1}, token=bound),
        api.post(f"/v1/jobs/{job['id']}/result", {"owner": "a", "result": {"error": "x"}}, token=bound),
        api.post(f"/v1/jobs/{job['id']}/cancel", token=bound),
    ]
    for answer in attempts:
        check_error(answer, 403, "forbidden")
        assert "bound to device 'phone'" in answer.json()["error"]["message"]
    assert api.get(f"/v1/jobs/{job['id']}").json()["job"] == job
    assert api.post("/v1/devices", {"name": "phone", "probe": {}}, token=bound).status_code == 201
    assert api.post("/v1/jobs/lease", {**lease, "device": "phone"}, token=bound).json() == {"job": None}


READS_OF_NO_DEVICE = ("/healthz", "/readyz", "/metrics", "/v1/plan", "/v1/graph", "/v1/pair", "/v1/token", "/agent/")


def test_token_bound_to_a_device_sees_nothing_of_another_on_any_route(api, lab):
    table = lab.profile(api)
    api.post("/v1/devices", {"name": "phone", "probe": {}})
    job = api.post("/v1/jobs", to_wire(lab.verify_job(table))).json()["job"]
    api.post("/v1/searches", to_wire(lab.search_result(table["hash"])))
    bound = create_token(api.store.tokens, "read", device="phone")
    names = {"search": "a" * 64, "name": "pi", "run_id": "run-1", "job_id": job["id"], "table_hash": table["hash"]}
    query = {"space": table["space"], "runtime": table["runtime"]}
    refused, filtered = set(), set()
    for path, operations in api.get("/openapi.json", role=None).json()["paths"].items():
        for method, operation in operations.items():
            if operation["x-role"] not in ("read", "anyone") or path.startswith(READS_OF_NO_DEVICE):
                continue
            if path != "/v1/devices":  # it takes no device
                answer = api.call(method, path.format(**names), token=bound, params=query | {"device": "pi"})
                check_error(answer, 403, "forbidden")
                assert "bound to device 'phone'" in answer.json()["error"]["message"]
                refused.add(path)
            if "{" not in path and path != "/v1/kernels":
                everything = api.call(method, path, token=bound)
                assert everything.status_code == 200
                assert '"pi"' not in everything.text
                filtered.add(path)
    assert filtered == {"/v1/devices", "/v1/tables", "/v1/runs", "/v1/jobs", "/v1/searches"}
    assert len(refused) == 15


def test_token_bound_to_a_device_sees_all_of_its_own(api, lab):
    table = lab.profile(api)
    job = api.post("/v1/jobs", to_wire(lab.verify_job(table))).json()["job"]
    bound = create_token(api.store.tokens, "read", device="pi")
    paths = ["/v1/devices", "/v1/devices/pi", "/v1/devices/pi/table", "/v1/tables", f"/v1/tables/{table['hash']}"]
    paths += ["/v1/runs", "/v1/runs/run-1", "/v1/runs/run-1/measurements", "/v1/jobs?device=pi"]
    paths += [f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/result", "/v1/plan?space=nas-bench-201/r8/c4/n1/k10/i3"]
    for path in paths:
        answer = api.get(path, token=bound)
        assert (answer.status_code, answer.content) == (200, api.get(path).content), path


def test_pages_are_not_for_tokens_that_see_one_device(start):
    with start(reads="closed") as api:
        bound, free = (create_token(api.store.tokens, "read", device=device) for device in ("pi", None))
        assert api.get("/?format=json", token=bound).status_code == 403
        assert api.get("/?format=json", token=free).status_code == 200
        assert api.http.get("/?format=json", headers={"Cookie": f"lutnas_token={bound}"}).status_code == 403
        assert api.http.post("/login", data={"token": bound}).status_code == 403


@pytest.mark.parametrize("change", [lambda secret: secret + "x", lambda secret: secret[:-1], lambda secret: "a" * 43])
def test_another_secret_for_a_known_id_is_refused_also_after_the_right_one(store, change):
    token = create_token(store.tokens, "agent", device="pi")
    authenticator, (_, token_id, secret) = Authenticator(store.tokens), token.split("_", 2)
    for _ in range(2):
        assert authenticator.authenticate(token) == Principal("agent", "pi", token_id)
        with pytest.raises(AccessDenied):
            authenticator.authenticate(f"lut_{token_id}_{change(secret)}")


def test_secret_is_not_in_the_database(store, tmp_path):
    token = create_token(store.tokens, "agent")
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token.split("_")[1].encode() in files
    assert token.split("_", 2)[2].encode() not in files


@pytest.mark.parametrize("wrong", [{"role": "king"}, {"role": "agent", "device": "a b"}])
def test_token_of_no_role_or_for_no_device_is_not_made(store, wrong):
    with pytest.raises(InvalidValue):
        create_token(store.tokens, **wrong)
    assert store.tokens.list() == ()


def test_a_token_ends_when_its_days_are_over_and_says_when_it_was_used(api):
    token = create_token(api.store.tokens, "read", clock=api.clock, days=1)
    api.clock.advance(80_000)
    assert api.get("/v1/devices", token=token).status_code == 200
    (listed,) = [known for known in api.store.tokens.list() if known.id == token.split("_")[1]]
    assert listed.last_used_at == stamp(api.clock())
    api.clock.advance(6_400)
    check_error(api.get("/v1/devices", token=token), 401, "unauthorized")
    for days in (0, -1, float("nan"), 1e9):
        with pytest.raises(InvalidValue, match="days"):
            create_token(api.store.tokens, "read", days=days)


def test_token_bound_to_a_device_never_reads_the_name_of_another(start, lab):
    with start(reads="closed") as api:
        table = lab.profile(api)
        job = api.post("/v1/jobs", to_wire(lab.verify_job(table))).json()["job"]
        api.post("/v1/searches", to_wire(lab.search_result(table["hash"])))
        bound = create_token(api.store.tokens, "agent", device="phone")
        asked = [
            api.get("/v1/devices/phone", token=bound),
            api.get("/v1/devices/phone/table", token=bound),
            api.post("/v1/jobs/lease", {"device": "phone", "owner": "a", "lease_s": 1}, token=bound),
            api.post("/v1/devices/phone/predict", {"ops": {}}, token=bound),
            api.put("/v1/runs/run-9", to_wire(replace(lab.run("run-9"), device="phone")), token=bound),
            api.get("/v1/runs/run-1", token=bound),
            api.get(f"/v1/jobs/{job['id']}", token=bound),
            api.get(f"/v1/searches/{'a' * 64}", token=bound),
            api.get(f"/v1/tables/{table['hash']}", token=bound),
        ]
        assert {answer.status_code for answer in asked} == {403, 404}
        api.post("/v1/devices", {"name": "phone", "probe": {}})
        search = create_token(api.store.tokens, "search", device="phone")
        asked.append(api.post("/v1/jobs", to_wire(lab.verify_job(table, device="phone")), token=search))
        assert asked[-1].status_code == 422
        for answer in asked:
            assert not re.search(r"\bpi\b", answer.json()["error"]["message"]), answer.json()


def test_search_of_a_device_cannot_be_hidden_by_a_posting_of_another(api, lab):
    table = lab.profile(api)
    own = to_wire(lab.search_result(table["hash"]))
    assert api.post("/v1/searches", own).status_code == 201
    api.post("/v1/devices", {"name": "phone", "probe": {}})
    bound = create_token(api.store.tokens, "search", device="phone")
    check_error(api.post("/v1/searches", {**own, "device": "phone", "dataset": "mine"}, token=bound), 409, "conflict")
    assert api.get(f"/v1/searches/{own['search']}").json()["result"] == own
    assert api.post("/v1/searches", {**own, "dataset": "again"}).status_code == 201


@pytest.mark.parametrize(
    "probe",
    [{"cpu": "x" * 40_000_000}, {"x" * 50_000: "y"}, {str(n): "y" for n in range(20_000)}],
    ids=["40 MB", "long name", "many"],
)
def test_probe_that_nobody_could_read_is_refused(api, lab, probe):
    check_error(api.post("/v1/devices", {"name": "pi", "probe": probe}), 422, "invalid")
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    check_error(api.put("/v1/runs/run-1", {**to_wire(lab.run()), "probe": probe}), 422, "invalid")


def test_token_brings_so_much_and_another_token_brings_more(any_store, lab, monkeypatch):
    monkeypatch.setattr(devices, "MOST_OF_TOKEN", 2)
    monkeypatch.setattr(models, "MOST_BYTES_OF_TOKEN", 10)
    monkeypatch.setattr(jobs, "MOST_QUEUED_OF_TOKEN", 2)
    job = NewJob("pi-0", "profile", lab.runtime, lab.plan.canary, str(lab.space))
    tries = (
        lambda n, token: any_store.devices.register(f"pi-{n}", {}, token)[1],
        lambda n, token: any_store.models.put(f"{n:064x}", b"12345", token),
        lambda n, token: any_store.jobs.add(job, token).state == "queued",
    )
    for bring in tries:
        assert bring(0, "a")
        assert bring(1, "a")
        with pytest.raises(Conflict, match="this token"):
            bring(2, "a")
        assert bring(2, "b")
        assert bring(3, None)
    assert any_store.devices.register("pi-0", {"cpu": "new"}, "a") == (any_store.devices.get("pi-0"), False)
    any_store.jobs.cancel(any_store.jobs.list()[0].id)
    assert any_store.jobs.add(job, "a")


def test_what_a_token_brings_counts_over_http(api, monkeypatch):
    monkeypatch.setattr(devices, "MOST_OF_TOKEN", 1)
    table = b"Linear-input:1x1x8-output:10:\n  {mean: 1.0, std: 0.1, count: 9}\n"
    assert api.post("/v1/devices", {"name": "pi", "probe": {}}).status_code == 201
    for refused in (
        api.post("/v1/devices", {"name": "phone", "probe": {}}),
        api.post("/v1/tables?name=a.yaml&device=phone", content=table),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert api.post("/v1/devices", {"name": "phone", "probe": {}}, role="agent").status_code == 201
