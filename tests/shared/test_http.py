"""The HTTP client of agent and search: every failure is an error of `shared.errors`."""

import gzip
import itertools
import socket
import subprocess
import sys

import httpx
import pytest

from lut_server.auth import create_token
from lut_server.store.sql import open_store
from profiler_agent.server.server_client import ServerClient
from search.device.lut_client import LutClient
from shared.errors import AccessDenied, Conflict, InvalidValue, LutnasError, NotFound, ServerAway, ServerRefused
from shared.http import client as client_module
from shared.http.proxies import find_proxy
from shared.http.retry import pauses_s, retry

URL = "http://lut.example:8700"
TOKEN = "lut_a-secret-that-is-in-no-message"


@pytest.fixture(params=[ServerClient, LutClient])
def program(request):
    return request.param


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A running lut-server, and a token of each role by the role's name."""
    database = f"sqlite:///{tmp_path_factory.mktemp('real')}/lut.db"
    store = open_store(database)
    tokens = {role: create_token(store.tokens, role) for role in ("agent", "search")}
    store.close()
    serve = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", database]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process.stdout.readline().split()[-1], tokens
        finally:
            process.terminate()


def transport(answer):
    return httpx.MockTransport(answer if callable(answer) else lambda request: answer)


def refusal(status, code="some_code", message="because of this", detail=None):
    return httpx.Response(status, json={"error": {"code": code, "message": message, "detail": detail}})


def error_of(client, *expected):
    with client, pytest.raises(expected) as caught:
        client.get_job("7")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert TOKEN not in str(caught.value)
    return caught.value


def test_real_server_answers_the_token_of_the_programs_role(program, real):
    url, tokens = real
    error = error_of(program(url, tokens[program.role]), NotFound)
    assert (error.status, error.code) == (404, "unknown_job")
    assert url in str(error)


def test_real_server_refuses_a_token_that_it_does_not_know_and_the_message_says_which_is_needed(program, real):
    with program(real[0], TOKEN) as client, pytest.raises(AccessDenied) as caught:
        client._ask("POST", "jobs", body={})
    assert f"pass --token or set LUTNAS_TOKEN to a token with the role '{program.role}'" in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AccessDenied), (403, AccessDenied), (404, NotFound), (409, Conflict), (413, ServerRefused),
     (422, ServerRefused), (429, ServerRefused), (500, ServerRefused), (503, ServerAway)],
)  # fmt: skip
def test_each_refusal_is_an_error_of_its_kind_with_the_url_and_the_reason(program, status, kind):
    error = error_of(program(URL, None, transport(refusal(status, detail={"kernels": ["a"]}))), kind)
    assert type(error) is kind
    assert f"{URL} " in str(error)
    assert "because of this" in str(error)
    if kind is not ServerAway:
        assert (error.status, error.code, error.detail) == (status, "some_code", {"kernels": ["a"]})


@pytest.mark.parametrize(
    "url",
    ["", "lut.example:8700", "ftp://x", "http://", "http://[::1", "not a url", "http://x:99999", "http://..",
     "http://" + "a" * 64, "http://x?a=b", "http://x#a", "http://a\nb"],
)  # fmt: skip
def test_url_that_is_none_is_wrong_use(program, url):
    with pytest.raises(InvalidValue, match=r"lut-url: '.*' is no URL like http://server:8700 alone"):
        program(url)


@pytest.mark.parametrize("url", ["http://me:hush@lut.example:8700", "http://lut.example?token=hush", "http://x/#hush"])
def test_password_in_the_url_is_refused_and_not_repeated(program, url):
    with pytest.raises(InvalidValue, match="lut-url") as caught:
        program(url)
    assert "hush" not in str(caught.value)


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "proxy",
    ["gopher://me:hush@x", "http://me:hush@x:port", "socks5://me:hush@x", "socks://127.0.0.1:7891/", "http://me:hush@"],
)
def test_proxy_that_cannot_be_used_is_wrong_use_and_not_repeated(program, no_proxies, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(InvalidValue, match=r"ALL_PROXY: .*NO_PROXY=lut\.example") as caught:
        program(URL)
    assert "hush" not in str(caught.value)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # goes before the proxy for everything
    program(URL).__exit__()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "http://gone.invalid:3128", "socks://127.0.0.1:9/"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_server_on_this_machine_is_asked_without_a_proxy(program, real, no_proxies, monkeypatch, proxy, host):
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", "[::1],.example.com")
    url, tokens = real
    error_of(program(url.replace("127.0.0.1", host), tokens[program.role]), NotFound)


def test_proxy_is_named_without_its_password(program, no_proxies, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:hush@127.0.0.1:9")
    error = error_of(program(URL), ServerAway)
    assert f"{URL}, through the proxy 127.0.0.1:9 (HTTP_PROXY)," in str(error)
    assert "hush" not in str(error)
    monkeypatch.setenv("NO_PROXY", "localhost,[2001:db8::1],.example")
    assert [find_proxy("http", host) for host in ("nobody.example", "2001:db8::1")] == [None, None]
    assert find_proxy("http", "example.com") == ("http://me:hush@127.0.0.1:9", "127.0.0.1:9 (HTTP_PROXY)")


@pytest.mark.parametrize("url", [URL, "https://lut.example"])
def test_authorities_that_the_environment_names_and_nobody_can_read_are_wrong_use(program, monkeypatch, url):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(InvalidValue, match=r"SSL_CERT_FILE: cannot be used \(No such file"):
        program(url)


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("no certificate", "in PEM form")])
def test_file_that_holds_no_certificate_is_wrong_use(program, tmp_path, content, words):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidValue, match=f"ca-file: cannot use {path}: .*{words}"):
        program("https://lut.example", ca_file=str(path))


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "caf\xe9", "tab\t"])
def test_token_that_no_header_takes_is_refused_and_not_repeated(program, token):
    with pytest.raises(InvalidValue, match="token: ") as caught:
        program(URL, token)
    assert token not in str(caught.value)
    assert "\xe9" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html=f"<p>{TOKEN}</p>"),
        httpx.Response(400, text=TOKEN),
        refusal(401, message=f"unknown token {TOKEN}"),
        refusal(422, message=f"header {TOKEN}"),
        httpx.Response(200, json={"job": TOKEN}),
    ],
)
def test_token_that_a_server_repeats_is_in_no_message(program, answer):
    error_of(program(URL, TOKEN, transport(answer)), ServerRefused)


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"), httpx.ConnectTimeout(""), httpx.ReadTimeout("slow"), httpx.PoolTimeout("full"),
        httpx.ReadError("reset"), httpx.WriteError("gone"), httpx.RemoteProtocolError("cut"), httpx.ProxyError("p"),
        httpx.UnsupportedProtocol("x"), httpx.TooManyRedirects("round"), httpx.DecodingError("bad gzip"),
    ],
)  # fmt: skip
def test_every_failure_of_the_connection_is_a_server_that_is_away(program, failure):
    def fail(request):
        raise failure

    error = error_of(program(URL, None, transport(fail)), ServerAway)
    assert str(error).startswith(f"no answer from {URL} (")
    assert error.__cause__ is failure


def test_other_scheme_than_the_servers_is_said(program, real):
    url = real[0].replace("http:", "https:")
    assert f"does it serve HTTP? Then: --lut-url {url.replace('https:', 'http:')}" in str(
        error_of(program(url), ServerAway)
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_without_a_listener_is_a_server_that_is_away(program, host):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can take it
        error = error_of(program(f"http://{host}:{free.getsockname()[1]}"), ServerAway)
    assert "lut-server" in str(error)
    assert "--lut-url" in str(error)


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("content", [{"html": "<h1>Bad Gateway</h1>"}, {"json": {"error": "bad gateway"}}])
def test_proxy_without_its_server_is_a_server_that_is_away(program, status, content):
    error_of(program(URL, None, transport(httpx.Response(status, **content))), ServerAway)


@pytest.mark.parametrize(
    "foreign",
    [
        httpx.Response(200, html="<html>Welcome to your router</html>"),
        httpx.Response(404, html="<html>nothing here</html>"),
        httpx.Response(200, json=[1, 2]),
        httpx.Response(200, json={"unexpected": 1}),
        httpx.Response(200, json={"job": {"id": "7"}}),
        httpx.Response(200, content=b"\xff\xfe"),
        httpx.Response(200, content=b"[" * 100_000),
        *(
            httpx.Response(200, content=b'{"job":' + b'{"a":' * n + b"1" + b"}" * n + b"}")
            for n in range(300, 1500, 60)
        ),
        httpx.Response(200, content=b'{"job": {"id": NaN}}'),
        httpx.Response(200, json={"job": {"id": "a\nb\x1b[2J"}}),
        httpx.Response(200, content=b""),
        httpx.Response(302, headers={"Location": "/login"}),
        httpx.Response(500, json={"error": "plain"}),
        httpx.Response(400, json={"detail": [{"msg": "other server"}]}),
    ],
)
def test_response_that_is_no_lut_servers_is_said_to_be_none(program, foreign):
    error = error_of(program(URL, None, transport(foreign)), ServerRefused)
    assert f"{URL} does not speak as a lut-server does" in str(error)
    assert error.code == "foreign"


@pytest.mark.parametrize("status", [200, 500])
def test_response_that_never_ends_is_left_in_the_middle(program, status):
    sent = itertools.count()
    pieces = (b" " * 1000 for _ in sent)
    client = program(URL, None, transport(httpx.Response(status, content=pieces)), most_bytes=200_000)
    assert "longer than 200000 bytes" in str(error_of(client, ServerRefused))
    assert next(sent) < 400


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "br", "zstd", "gzip,gzip,gzip"])
def test_response_in_a_packing_that_nobody_asked_for_is_refused_unpacked(program, encoding):
    content = gzip.compress(gzip.compress(b" " * 10_000_000))
    answer = httpx.Response(200, headers={"Content-Encoding": encoding}, stream=httpx.ByteStream(content))
    assert "packed as" in str(error_of(program(URL, None, transport(answer)), ServerRefused))


def test_gzip_bomb_is_left_at_the_bound(program):
    content = gzip.compress(b" " * 50_000_000)
    answer = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(content))
    client = program(URL, None, transport(answer), most_bytes=200_000)
    assert "longer than 200000 bytes" in str(error_of(client, ServerRefused))


def test_response_that_drips_is_left_after_a_while(program, monkeypatch):
    monkeypatch.setattr(client_module, "LONGEST_S", 0.0)
    assert "or 0 s" in str(error_of(program(URL, None, transport(refusal(200))), ServerRefused))


def test_message_of_a_server_is_a_line_that_leaves_the_terminal_alone(program):
    answer = refusal(422, message="first\nsecond\x1b[2J\u202e")
    said = str(error_of(program(URL, None, transport(answer)), ServerRefused))
    assert said.endswith("first second\\x1b[2J\\u202e")


def test_segments_of_a_path_cannot_become_others(program):
    asked = []

    def answer(request):
        asked.append(request.url.raw_path)
        return refusal(404)

    with program(f"{URL}/below", None, transport(answer)) as client, pytest.raises(NotFound):
        client.get_table("a/b?c#d", "s|p", None)
    assert asked == [b"/below/v1/devices/a%2Fb%3Fc%23d/table?space=s%7Cp"]


def test_later_tries_wait_longer_and_stop_at_what_waiting_cannot_help():
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
    assert list(itertools.islice(pauses_s(), 8)) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize(
    ("header", "pauses"),
    [("7", [7.0, 7.0]), ("0", [0.5, 1.0]), ("9999", [60.0, 60.0]), ("Sat, 28 Nov 2026 23:00:00 GMT", [0.5, 1.0])],
)
def test_pause_is_as_long_as_the_server_asks(program, status, header, pauses):
    waited, busy = [], refusal(status)
    busy.headers["Retry-After"] = header
    with program(URL, None, transport(busy)) as client, pytest.raises((ServerRefused, ServerAway)):
        retry(lambda: client._ask("GET", "jobs"), 3, waited.append)
    assert waited == pauses


def test_both_programs_get_through_to_a_server_that_comes_back(program):
    answers = [refusal(503), httpx.ConnectError("refused"), refusal(429), httpx.Response(200, json={"fine": True})]

    def answer(request):
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with program(URL, None, transport(answer)) as client:
        assert retry(lambda: client._ask("GET", "jobs"), 4, lambda pause_s: None) == {"fine": True}
        answers[:] = [refusal(503)] * 4
        with pytest.raises(LutnasError, match="because of this"):
            retry(lambda: client._ask("GET", "jobs"), 4, lambda pause_s: None)
    assert answers == []
