"""What the agent alone asks of a server: graphs as streams, plans, large bodies."""

import gzip
import hashlib
import io
import json

import httpx
import pytest

from profiler_agent.server.server_client import ServerClient
from shared.errors import OtherSchema, ServerAway, ServerRefused
from shared.measurements.plan import make_plan
from shared.runtime import Runtime
from shared.spaces import make_space
from shared.wire import TABLE_SCHEMA, to_wire

URL = "http://lut.example:8000"


def client_that_gets(answer, token=None):
    return ServerClient(URL, token, httpx.MockTransport(answer if callable(answer) else lambda request: answer))


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


def test_a_table_of_another_space_is_not_the_one_that_was_asked_for():
    runtime = Runtime("onnxruntime", "1.31.0")
    table = {
        "device": "pi", "runtime": to_wire(runtime), "space": "other", "canary": "c", "canary_nominal_ms": 1.0,
        "agent_version": "0", "base_ms": 1.0, "prices": [], "covariance": [[0.0]], "relative_spread": 0.0,
        "networks": [], "runs": [], "schema": TABLE_SCHEMA, "held_out": None,
    }  # fmt: skip
    client = client_that_gets(httpx.Response(200, json=table))
    assert client.find_table("pi", "other", runtime).space == "other"
    with pytest.raises(ServerRefused, match="it sent a table of other"):
        client.find_table("pi", "nas-bench-201/r32/c16/n5/k10/i3", runtime)
