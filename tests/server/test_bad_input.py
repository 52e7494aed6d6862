"""Whatever comes in: one error shape, the right status, nothing stored, and a server that goes on."""

import gzip
import json
import socket

import pytest

from lut_server.error_codes import STATUS_OF_CODE
from shared.wire import to_wire

MEASUREMENTS = "/v1/runs/run-1/measurements"


def check_error(answer, *codes):
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "detail"}
    assert error["code"] in codes, error
    assert answer.status_code == STATUS_OF_CODE[error["code"]]
    assert answer.headers["content-type"] == "application/json"


def batch_with(lab, text):
    """A batch whose first graph time is the given JSON text."""
    batch = to_wire([lab.measure(lab.plan.tasks[-1])])
    batch[0]["rounds"][0]["graph_ms"] = ["HERE"]
    return json.dumps({"measurements": batch}).replace('"HERE"', text).encode()


@pytest.mark.parametrize(
    "time",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1.0",
        "0",
        "0.0",
        "5e-324",
        "9e-10",
        "600001",
        "null",
        '"1"',
        "true",
        "[1]",
        "1" * 5000,
    ],
)
def test_time_that_is_no_time_is_refused_and_nothing_is_stored(steady_api, lab, time):
    answer = steady_api.post(MEASUREMENTS, content=batch_with(lab, time))
    check_error(answer, "invalid", "invalid_json")
    assert steady_api.get("/v1/runs/run-1").json()["measurements"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"measurements": [',
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"\x00",
        b'{"measurements": 1}',
        b'{"measurements": {}}',
        b'{"measurements": [1]}',
        b'{"measurements": [{}]}',
        b'{"measurements": [[[]]]}',
        b'{"measurement": []}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"measurements":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"measurements": [{"id": "\\ud800"}]}',
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
@pytest.mark.parametrize("path", [MEASUREMENTS, "/v1/runs/run-1/finish", "/v1/devices", "/v1/jobs", "/v1/jobs/lease"])
def test_body_that_is_no_such_json_is_refused(steady_api, path, body):
    check_error(steady_api.post(path, content=body), "invalid", "invalid_json")


def test_every_prefix_of_a_good_body_is_refused(steady_api, lab):
    whole = json.dumps({"measurements": to_wire([lab.measure(lab.plan.tasks[-1], rounds=1)])}).encode()
    for end in range(0, len(whole), 23):
        check_error(steady_api.post(MEASUREMENTS, content=whole[:end]), "invalid_json")
    assert steady_api.get("/v1/runs/run-1").json()["measurements"] == 0


def test_half_a_surrogate_pair_is_refused_where_text_is_free(steady_api):
    check_error(steady_api.post("/v1/devices", content=b'{"name": "pi", "probe": {"cpu": "\\udc00"}}'), "invalid_json")
    whole = steady_api.post("/v1/devices", content=b'{"name": "pi", "probe": {"cpu": "\\ud83d\\ude00"}}')
    assert whole.json()["device"]["probe"] == {"cpu": "\U0001f600"}


@pytest.mark.parametrize("name", ["", "a b", "../etc", "x" * 65, "-x", "a\n", "\u00e9"])
def test_name_that_no_device_can_have_is_refused(steady_api, name):
    check_error(steady_api.post("/v1/devices", {"name": name, "probe": {}}), "invalid")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/plan",
        "/v1/plan?space=nas-bench-201/r8/c4/n1/k10/i3&calibration=0",
        "/v1/plan?space=nas-bench-201/r8/c4/n1/k10/i3&calibration=many",
        "/v1/plan?space=nas-bench-201/r8/c4/n1/k10/i3&held_out=-1",
        "/v1/plan?space=nas-bench-201/r7/c4/n1/k10/i3",
        "/v1/plan?space=nas-bench-201/r08/c4/n1/k10/i3",
        "/v1/plan?space=nas-bench-201/r٨/c4/n1/k10/i3",
        "/v1/plan?space=own/0123456789abcdef/r32/i3/k10/03.2",
        "/v1/graph?spec=chain:1:nor_conv_1x1/4x08x8/4x8x8/s1",
        "/v1/graph?spec=chain:١:nor_conv_1x1/4x8x8/4x8x8/s1",
        "/v1/plan?space=kettle/r8/c4/n1/k10/i3",
        "/v1/plan?space=nas-bench-201",
        "/v1/graph",
        "/v1/graph?spec=canary:conv-v1&batch=0",
        "/v1/graph?spec=canary:conv-v1&batch=5000",
        "/v1/graph?spec=canary:conv-v1&precision=int4",
        "/v1/jobs?state=boiling",
    ],
)
def test_parameter_outside_its_domain_is_refused(steady_api, path):
    check_error(steady_api.get(path), "invalid")


@pytest.mark.parametrize("path", ["/v1", "/v2/devices", "/v1/devices/pi/kettle", "/v1/devices/", "/docs", "/%00"])
def test_path_that_leads_nowhere_is_answered_in_the_one_shape(steady_api, path):
    check_error(steady_api.get(path), "not_found")


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1/devices"), ("PATCH", "/v1/runs/x"), ("POST", "/healthz")])
def test_method_that_a_route_lacks_is_answered_with_those_it_has(steady_api, method, path):
    answer = steady_api.call(method, path)
    check_error(answer, "method_not_allowed")
    assert answer.headers["allow"]


def test_gzip_body_is_read(api):
    body = gzip.compress(b'{"name": "pi", "probe": {}}')
    answer = api.post("/v1/devices", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 201


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, -4), slice(0, 20), slice(5, None)])
def test_gzip_body_that_is_damaged_or_cut_off_is_refused(steady_api, cut):
    body = gzip.compress(b'{"name": "tea", "probe": {}}')[cut]
    answer = steady_api.post("/v1/devices", content=body, headers={"Content-Encoding": "gzip"})
    check_error(answer, "invalid_json")


def test_gzip_body_that_goes_on_after_its_end_is_refused(steady_api):
    body = gzip.compress(b'{"name": "tea", "probe": {}}') + b"more"
    check_error(steady_api.post("/v1/devices", content=body, headers={"Content-Encoding": "gzip"}), "invalid_json")


def test_unknown_encoding_is_refused(steady_api):
    answer = steady_api.post("/v1/devices", content=b"x", headers={"Content-Encoding": "br"})
    check_error(answer, "unsupported_encoding")


def test_body_over_the_limit_is_refused_however_it_comes(start):
    big = b'{"name": "pi", "probe": {"cpu": "' + b"a" * (2 << 20) + b'"}}'

    def chunks():
        for begin in range(0, len(big), 65536):
            yield big[begin : begin + 65536]

    with start(max_body_mb=1) as api:
        check_error(api.post("/v1/devices", content=big), "too_large")
        check_error(api.post("/v1/devices", content=chunks()), "too_large")
        bomb = gzip.compress(big)
        assert len(bomb) < 10_000
        check_error(api.post("/v1/devices", content=bomb, headers={"Content-Encoding": "gzip"}), "too_large")
        small = b'{"name": "pi", "probe": {}}' + b" " * (1 << 19)
        assert api.post("/v1/devices", content=small).status_code == 201


def test_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(start):
    frame = b'{"name": "pi", "probe": {}}'
    with start(max_body_mb=1) as api:
        for extra, status in ((0, 201), (1, 413)):
            body = frame + b" " * ((1 << 20) - len(frame) + extra)
            for encoded, headers in ((body, {}), (gzip.compress(body), {"Content-Encoding": "gzip"})):
                answer = api.post("/v1/devices", content=encoded, headers=headers)
                assert answer.status_code in (status, 200 if status == 201 else status)


def test_client_that_goes_away_in_the_middle_of_its_body_leaves_nothing(api):
    host, port = api.url.removeprefix("http://").split(":")
    head = (
        "POST /v1/devices HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {api.token('admin')}",
        "Content-Length: 90",
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall("\r\n".join((*head, "", '{"name": "pi"')).encode())
    assert api.get("/v1/devices").json() == {"devices": []}
    assert api.get("/healthz").json() == {"status": "ok"}
