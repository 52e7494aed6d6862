"""Connections that are silent, slow or too many; names that are not this server's; forged lines."""

import contextlib
import re
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import fastapi
import httpx
import pytest

from lut_server.settings import Settings
from shared.errors import InvalidValue
from shared.tables.table_text import align


@contextlib.contextmanager
def connections(url, count, say=b""):
    host, port = url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(count)]
        for each in made:
            each.sendall(say)
        yield made


def seconds_until_closed(slow, say=None):
    began_s = time.monotonic()
    slow.settimeout(0.1)
    while time.monotonic() - began_s < 20:
        try:
            if say:
                slow.sendall(say)
            if not slow.recv(4096):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began_s


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"", None),
        (b"GET /healthz HTTP/1.1\r\n", b"A: b\r\n"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nG", None),
    ],
)
def test_head_that_does_not_come_ends_the_connection(start, first, more):
    with start(max_head_s=1) as api, connections(api.url, 1, first) as (slow,):
        assert 0.8 < seconds_until_closed(slow, more) < 4


def test_first_request_waits_for_no_route_to_be_built(start, monkeypatch):
    with start() as api:
        built = []
        make = fastapi._compat.v2.TypeAdapter
        monkeypatch.setattr(fastapi._compat.v2, "TypeAdapter", lambda *a, **b: built.append(a) or make(*a, **b))
        assert httpx.get(f"{api.url}/healthz").status_code == 200
        assert httpx.get(f"{api.url}/no/such/page").status_code == 404
        assert not built


def test_kept_connection_may_be_idle_for_longer_than_a_head_may_take(start):
    with start(max_head_s=1) as api, contextlib.closing(HTTPConnection(urlsplit(api.url).netloc)) as kept:
        ports = set()
        for _ in range(2):
            kept.request("GET", "/healthz")
            ports.add(kept.sock.getsockname()[1])
            assert kept.getresponse().read() == b'{"status":"ok"}'
            time.sleep(1.5)
        assert len(ports) == 1


def test_silent_connections_give_way_to_new_ones(start):
    with start(max_connections=20) as api, connections(api.url, 100) as silent:
        for path in ("/healthz", "/v1/devices"):
            assert httpx.get(api.url + path).status_code == 200
        silent[0].settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert silent[0].recv(1) == b""


def test_health_is_answered_where_every_connection_has_a_request(start):
    with start(max_connections=5) as api:
        head = "POST /v1/devices/pi/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        api.post("/v1/devices", {"name": "pi", "probe": {}})
        api.http.close()
        with connections(api.url, 5, head.encode()):
            time.sleep(0.3)
            assert httpx.get(f"{api.url}/healthz").status_code == 200
            busy = httpx.get(f"{api.url}/v1/devices")
            assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
            assert "max_connections" in busy.json()["error"]["message"]
        time.sleep(0.3)
        assert httpx.get(f"{api.url}/v1/devices").status_code == 200


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "localhost:1234", 200),
        ({}, "127.0.0.1", 200),
        ({}, "[::1]:8700", 200),
        ({}, "rebound.example", 403),
        ({}, "localhost.rebound.example", 403),
        ({"allowed_hosts": "lut.example, other.example"}, "LUT.example:8700", 200),
        ({"allowed_hosts": "lut.example"}, "rebound.example", 403),
        ({"allowed_hosts": "*"}, "rebound.example", 200),
        ({"host": "0.0.0.0"}, "lut.example", 200),
    ],
)
def test_host_that_is_not_the_servers_is_refused(start, settings, host, status):
    with start(**settings) as api:
        answer = api.get("/v1/devices", role=None, headers={"Host": host})
        assert answer.status_code == status
        if status == 403:
            assert "allowed_hosts" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://127.0.0.1:1"])
def test_form_of_another_site_signs_nobody_in_or_out(start, path, origin):
    with start(reads="closed") as api:
        answer = api.http.post(path, data={"token": api.token("read")}, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        own = api.http.post(path, data={"token": api.token("read")}, headers={"Origin": api.url})
        assert own.status_code == 303


def test_log_has_a_line_for_a_request_whatever_its_path_says(tmp_path):
    database = f"sqlite:///{tmp_path}/log.db"
    command = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[-1]
        httpx.get(f"{url}/v1/x%0aINFO:%20%20forged%1b%5b2J%c2%9b")
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert not re.search(r"^INFO:\s+forged", err, re.MULTILINE)
    assert "\x1b[2J" not in err
    assert "\x9b" not in err
    assert "/v1/x%0aINFO" in err


@pytest.mark.parametrize(
    "wrong",
    [
        {"trusted_proxies": "everyone"},
        {"allowed_hosts": "a b"},
        {"root_path": "lutnas"},
        {"root_path": "/lutnas/"},
        {"max_connections": 0},
        {"max_head_s": 0},
    ],
)
def test_setting_outside_its_domain_is_refused_by_name(wrong):
    with pytest.raises(InvalidValue, match=f"^{next(iter(wrong))}: "):
        Settings(**wrong)


def test_words_of_a_device_cannot_move_the_cursor_of_an_operator():
    shown = align(("id", "note"), [("1", "no\x1b[2J memory\nINFO: forged\x9b1A")])
    assert len(shown.splitlines()) == 2
    assert not set(shown) & {"\x1b", "\x9b"}
