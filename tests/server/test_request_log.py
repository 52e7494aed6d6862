"""What stands around every request: limits, headers, ids, metrics, the audit log, TLS."""

import json
import re
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from lut_server.auth import FailureLimit
from lut_server.settings import Settings
from shared.errors import InvalidValue

WRONG = "lut_000000000000_" + "a" * 43


def test_guessing_tokens_is_answered_less_and_less_and_a_right_token_passes(api):
    statuses = [api.get("/v1/devices", token=WRONG).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    refused = api.get("/v1/devices", token=WRONG)
    assert refused.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert api.get("/v1/devices", role=None).status_code == 200
    assert api.get("/v1/devices", role="read").status_code == 200
    assert [api.get("/v1/devices", role=role).status_code for role in ("read", "search")] == [200, 200]


def test_wrong_tokens_at_once_are_counted_one_by_one_wherever_they_say_they_come_from(api):
    token_id = api.token("agent").split("_")[1]

    def guess(n):
        headers = {"Authorization": f"Bearer lut_{token_id}_{'a' * 40}{n:03}", "X-Forwarded-For": f"10.0.0.{n}"}
        return httpx.get(f"{api.url}/v1/devices", headers=headers).status_code

    with ThreadPoolExecutor(30) as pool:
        statuses = list(pool.map(guess, range(60)))
    assert sorted(statuses) == [401] * 10 + [429] * 50


@pytest.mark.parametrize(
    ("proxies", "counted"), [("", "127.0.0.1"), ("127.0.0.1", "10.1.2.3"), ("10.0.0.0/8", "127.0.0.1")]
)
def test_forwarded_address_counts_where_a_setting_names_the_proxy(start, proxies, counted):
    with start(trusted_proxies=proxies) as api:
        for _ in range(11):
            refused = api.get("/v1/devices", token=WRONG, headers={"X-Forwarded-For": "10.1.2.3"})
        assert f"too many wrong tokens from {counted};" in refused.json()["error"]["message"]


def test_failures_are_forgotten_after_the_window_and_counted_per_client():
    now = [0.0]
    limit = FailureLimit(most=2, window_s=10, clock_s=lambda: now[0])
    assert limit.count("a") == 0
    now[0] = 4.0
    assert limit.count("a") == 0
    assert limit.count("a") == 6
    assert limit.count("b") == 0
    now[0] = 10.5
    assert limit.count("a") == 0


def test_every_answer_has_security_headers_and_a_request_id(api):
    for path, status in (("/healthz", 200), ("/v1/nothing", 404), ("/v1/devices", 200)):
        answer = api.get(path, headers={"X-Request-Id": "follow-me.1"})
        assert answer.status_code == status
        assert answer.headers["x-request-id"] == "follow-me.1"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    own = api.get("/healthz", headers={"X-Request-Id": 'no"good\x7f'}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", own)


def test_metrics_count_requests_by_route_and_show_the_store(api):
    api.post("/v1/devices", json={"name": "pi", "probe": {}})
    for name in ("pi", "nobody", "somebody"):
        api.get(f"/v1/devices/{name}")
    text = api.get("/metrics").text
    assert 'lutnas_requests_total{method="GET",route="/v1/devices/{name}",status="404"} 2.0' in text
    assert 'lutnas_request_duration_seconds_count{method="GET",route="/v1/devices/{name}"} 3.0' in text
    assert "lutnas_devices 1.0" in text
    assert 'lutnas_jobs{state="queued"} 0.0' in text


def test_a_body_that_trickles_in_is_given_up(start):
    with start(max_body_s=1) as api, connection(api.url) as slow:
        head = f"POST /v1/devices HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api.token('admin')}\r\n"
        slow.sendall(f"{head}Content-Length: 100\r\nConnection: close\r\n\r\n{{".encode())
        answer = b"".join(iter(lambda: slow.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert "max_body_s" in answer


def connection(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_the_audit_log_has_one_line_per_write_with_its_token_and_no_secret(start, tmp_path):
    path = tmp_path / "audit.jsonl"
    with start(audit_log=str(path)) as api:
        token = api.token("agent")
        api.post("/v1/devices", json={"name": "pi", "probe": {}}, role="agent")
        api.get("/v1/devices", role="agent")
        api.post("/v1/devices", json={"name": "not a name"}, role="agent")
        api.post("/v1/devices", json={"name": "other", "probe": {}}, role=None)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(entry["method"], entry["path"], entry["status"]) for entry in entries] == [
        ("POST", "/v1/devices", 201),
        ("POST", "/v1/devices", 422),
    ]
    assert {entry["token"] for entry in entries} == {token.split("_")[1]}
    assert token.split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.fixture
def certificate(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return str(cert), str(key)


def test_serve_speaks_https_with_certificate_files(certificate, tmp_path):
    cert, key = certificate
    database = f"sqlite:///{tmp_path}/tls.db"
    command = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", database]
    with subprocess.Popen(
        [*command, "--tls-cert", cert, "--tls-key", key, "--log-format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().split()[-1]
        assert url.startswith("https://127.0.0.1:")
        answer = httpx.get(f"{url}/healthz", verify=ssl.create_default_context(cafile=cert))
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        process.terminate()
        _, err = process.communicate(timeout=20)
    (line,) = [json.loads(text) for text in err.splitlines() if text.startswith("{")]
    assert (line["path"], line["status"]) == ("/healthz", 200)
    assert line["request"] == answer.headers["x-request-id"]


def test_a_key_that_does_not_fit_is_refused_in_one_line(certificate, tmp_path):
    cert, _ = certificate
    command = [sys.executable, "-m", "lut_server.cli", "serve", "--database-url", f"sqlite:///{tmp_path}/tls.db"]
    finished = subprocess.run([*command, "--tls-cert", cert, "--tls-key", cert], capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.startswith("lut-server: ")
    assert finished.stderr.count("\n") == 1
    with pytest.raises(InvalidValue, match="tls_key"):
        Settings(tls_cert=cert)
