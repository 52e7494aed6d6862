"""Whatever comes back, or does not, leaves the client as one of shared.errors, with the URL and what to do."""

import gzip
import hashlib
import io
import json

import httpx
import pytest

from profiler_agent.retrying import retry
from profiler_agent.server.server_client import ServerClient
from shared.errors import AccessDenied, Conflict, InvalidValue, NotFound, OtherSchema, ServerAway, ServerRefused
from shared.measurements.plan import make_plan
from shared.spaces import make_space
from shared.wire import to_wire

URL = "http://lut.example:8000"


def client_that_gets(answer, token=None):
    return ServerClient(URL, token, httpx.MockTransport(answer if callable(answer) else lambda request: answer))


def refusal(status, code="some_code", message="because of this"):
    return httpx.Response(status, json={"error": {"code": code, "message": message, "detail": {}}})


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AccessDenied), (403, AccessDenied), (404, NotFound), (409, Conflict), (413, ServerRefused),
     (422, ServerRefused), (429, ServerRefused), (500, ServerRefused), (503, ServerAway)],
)  # fmt: skip
def test_each_refusal_is_an_error_of_its_kind_that_names_the_url_and_the_reason(status, kind):
    with pytest.raises(kind) as caught:
        client_that_gets(refusal(status)).fetch_run("r")
    assert URL in str(caught.value)
    assert "because of this" in str(caught.value)
    assert type(caught.value) is kind


def test_a_missing_token_says_where_to_put_one():
    with pytest.raises(AccessDenied, match="--token or set LUTNAS_TOKEN"):
        client_that_gets(refusal(401)).register_device("pi", {})


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"), httpx.ConnectTimeout(""), httpx.ReadTimeout("slow"), httpx.PoolTimeout("full"),
        httpx.ReadError("reset"), httpx.WriteError("gone"), httpx.RemoteProtocolError("cut"), httpx.ProxyError("p"),
        httpx.UnsupportedProtocol("x"), httpx.TooManyRedirects("round"), httpx.DecodingError("bad gzip"),
    ],
)  # fmt: skip
def test_every_failure_of_the_connection_is_a_server_that_is_away(failure):
    def fail(request):
        raise failure

    with pytest.raises(ServerAway, match=URL):
        client_that_gets(fail).fetch_run("r")


@pytest.mark.parametrize(
    "foreign",
    [
        httpx.Response(200, html="<html>Welcome to your router</html>"),
        httpx.Response(404, html="<html>nothing here</html>"),
        httpx.Response(200, json=[1, 2]),
        httpx.Response(200, json={"unexpected": 1}),
        httpx.Response(200, json={"run": {"id": 7}}),
        httpx.Response(200, content=b"\xff\xfe"),
        httpx.Response(302, headers={"Location": "/login"}),
        httpx.Response(500, json={"error": "plain"}),
        httpx.Response(400, json={"detail": [{"msg": "other server"}]}),
    ],
)
def test_an_answer_that_is_no_lut_servers_is_said_to_be_one(foreign):
    with pytest.raises(ServerRefused, match="does not speak as a lut-server does") as caught:
        client_that_gets(foreign).fetch_run("r")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_without_its_server_is_a_server_that_is_away(status):
    with pytest.raises(ServerAway):
        client_that_gets(httpx.Response(status, html="<h1>Bad Gateway</h1>")).fetch_run("r")


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x", "http://", "http://[::1", "not a url"])
def test_a_url_that_is_none_is_wrong_use(url):
    with pytest.raises(InvalidValue, match="server"):
        ServerClient(url)


def test_large_bodies_are_compressed_and_the_token_is_sent():
    seen = []

    def answer(request):
        seen.append(request)
        return httpx.Response(200, json={"device": {}})

    client_that_gets(answer, token="t0ken").register_device("pi", {"notes": "x" * 20_000})
    assert seen[0].headers["Authorization"] == "Bearer t0ken"
    assert seen[0].headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(seen[0].content))["probe"]["notes"]) == 20_000


def test_a_graph_whose_bytes_are_not_those_of_its_etag_is_not_taken():
    good = httpx.Response(200, content=b"model", headers={"ETag": f'"{hashlib.sha256(b"model").hexdigest()}"'})
    assert client_that_gets(good).fetch_graph("canary:conv-v1", 1) == b"model"
    torn = httpx.Response(200, content=b"mod", headers={"ETag": f'"{hashlib.sha256(b"model").hexdigest()}"'})
    with pytest.raises(ServerAway, match="not those of its ETag"):
        client_that_gets(torn).fetch_graph("canary:conv-v1", 1)


def test_a_graph_goes_into_its_file_piece_by_piece():
    content = bytes(range(256)) * 1000
    answer = httpx.Response(200, content=content, headers={"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
    file, pieces = io.BytesIO(), []
    file.write = pieces.append
    assert client_that_gets(answer).save_graph("canary:conv-v1", 1, file) == hashlib.sha256(content).hexdigest()
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 65_536


def test_a_connection_that_breaks_in_the_middle_of_a_graph_is_a_server_that_is_away():
    def pieces():
        yield b"mod"
        raise httpx.ReadError("reset")

    answer = httpx.Response(200, content=pieces(), headers={"ETag": '"0"'})
    with pytest.raises(ServerAway, match="reset"):
        client_that_gets(answer).fetch_graph("canary:conv-v1", 1)


def test_a_plan_of_another_lutnas_is_told_as_such():
    plan = to_wire(make_plan(make_space("nas-bench-201"), 2, 1)) | {"schema": 99}
    with pytest.raises(OtherSchema, match="schema 99"):
        client_that_gets(httpx.Response(200, json={"plan": plan})).fetch_plan("s", 2, 1, 0)


def test_asking_again_waits_longer_each_time_and_stops_at_what_waiting_cannot_help():
    pauses, answers = [], [ServerAway("a"), ServerRefused("b", 500, "internal"), ServerRefused("c", 429, "x"), "there"]

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry(ask, 4, pauses.append) == "there"
    assert pauses == [0.5, 1.0, 2.0]
    answers[:] = [AccessDenied("no", 403, "forbidden"), "never"]
    with pytest.raises(AccessDenied):
        retry(ask, 4, pauses.append)
    answers[:] = [ServerAway("1"), ServerAway("2")]
    with pytest.raises(ServerAway, match="2"):
        retry(ask, 2, pauses.append)
