"""A phone's token for a one-time code: given, refused, and shown by `lut-server pair`."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest
import segno

from lut_server.addresses import network_addresses, order_addresses
from lut_server.cli import main
from lut_server.commands.pair import qr_lines
from lut_server.http.sites import is_own_origin
from lut_server.pairing.codes import ALPHABET, create_code
from lut_server.pairing.reachable_urls import Reach, Server, find_reach, find_server
from shared.errors import InvalidValue, WrongUse


def new_code(api, device="my-phone", minutes=10, days=30):
    return create_code(api.store.pairings, device, minutes, days, api.clock).code


def redeem(api, code, device="my-phone", **headers):
    return api.post("/v1/pair", {"device": device, "code": code}, role=None, headers=headers)


def refusal(answer, status=401, code="unauthorized"):
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    return error["message"]


def test_code_gives_a_token_that_is_the_devices_own_and_ends(api):
    answer = redeem(api, new_code(api))
    assert answer.status_code == 201
    paired = answer.json()
    assert set(paired) == {"token", "device", "expires_at"}
    assert (paired["device"], paired["expires_at"][:10]) == ("my-phone", "2026-01-31")
    assert api.post("/v1/devices", {"name": "my-phone", "probe": {}}, token=paired["token"]).status_code == 201
    other = api.post("/v1/devices", {"name": "pi", "probe": {}}, token=paired["token"])
    assert "bound to device 'my-phone'" in refusal(other, 403, "forbidden")
    api.clock.advance(31 * 86_400)
    assert api.get("/v1/devices", token=paired["token"]).status_code == 401


def test_code_may_be_typed_as_people_read_it(api):
    code = new_code(api)
    assert re.fullmatch(rf"([{ALPHABET}]{{4}}-){{2}}[{ALPHABET}]{{4}}", code)
    typed = " " + code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert redeem(api, typed).status_code == 201


def test_code_works_once_and_the_second_hears_whose_token_it_became(api):
    code = new_code(api)
    token = redeem(api, code).json()["token"]
    said = refusal(redeem(api, code))
    assert f"used already, for token {token.split('_')[1]}" in said
    assert token.split("_", 2)[2] not in said
    assert len(api.store.tokens.list()) == 1


def test_of_many_with_the_same_code_one_is_served(any_url, start):
    with start(database_url=any_url) as api:
        code = new_code(api)
        with ThreadPoolExecutor(6) as pool:
            statuses = sorted(pool.map(lambda _: redeem(api, code).status_code, range(6)))
        assert statuses == [201] + [401] * 5
        assert [token.device for token in api.store.tokens.list()] == ["my-phone"]


def test_wrong_ended_replaced_and_revoked_codes_and_those_of_other_devices_are_refused(api):
    first = new_code(api)
    assert "not the code of 'tablet'" in refusal(redeem(api, first, "tablet"))
    second = new_code(api)
    assert first != second
    assert "not the code of 'my-phone'" in refusal(redeem(api, first))
    wrong = second[:-1] + ("A" if second[-1] != "A" else "B")
    said = refusal(redeem(api, wrong))
    assert "lut-server pair --device my-phone" in said
    assert said == refusal(redeem(api, first))  # whoever guesses does not hear how close it was
    api.clock.advance(601)
    assert "has ended" in refusal(redeem(api, second))
    third = new_code(api)
    assert api.store.pairings.end("my-phone")
    assert "not the code" in refusal(redeem(api, third))
    assert api.store.tokens.list() == ()


def test_guessing_codes_is_slowed_down_like_guessing_tokens(api):
    code = new_code(api)
    statuses = [redeem(api, "0000-0000-0000").status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    refused = redeem(api, "0000-0000-0000")
    assert refusal(refused, 429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "lutnas_refused_tokens_total 12.0" in api.get("/metrics", role=None).text
    assert redeem(api, code).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_post_from_a_page_of_another_site_is_refused_and_costs_nothing(api, headers):
    code = new_code(api)
    assert refusal(redeem(api, code, **headers), 403, "forbidden")
    own = {"Origin": api.url, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json; charset=utf-8"}
    assert redeem(api, code, **own).status_code == 201


def test_own_origin_is_the_host_with_its_port_whatever_the_scheme():
    assert is_own_origin("https://lut.example", "lut.example")
    assert is_own_origin("https://LUT.example:443", "lut.example")
    assert is_own_origin("http://[::1]:8700", "[::1]:8700")
    assert not is_own_origin("https://lut.example", "lut.example:8700")
    assert not is_own_origin("https://lut.example.evil.example", "lut.example")
    assert not is_own_origin("chrome-extension://abc", "abc")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{}", 422),
        (b"not json", 400),
        (b'{"device": "a b", "code": "x"}', 422),
        (b'{"device": "a", "code": ""}', 422),
        (b'{"device": "a", "code": "' + b"0" * 5000 + b'"}', 413),
    ],
)
def test_body_that_is_no_pairing_is_refused_in_the_one_shape(api, content, status):
    answer = api.call("POST", "/v1/pair", role=None, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_neither_code_nor_token_is_in_the_database_or_in_any_log(start, tmp_path, capfd):
    audit = tmp_path / "audit.jsonl"
    with start(audit_log=str(audit)) as api:
        code = new_code(api)
        redeem(api, "0000-0000-0000")
        token = redeem(api, code).json()["token"]
    entries = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(entry["path"], entry["status"], entry["device"], entry["token"]) for entry in entries] == [
        ("/v1/pair", 401, "my-phone", None),
        ("/v1/pair", 201, "my-phone", token.split("_")[1]),
    ]
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir()) + "".join(capfd.readouterr()).encode()
    for secret in (code, code.replace("-", ""), token.split("_", 2)[2]):
        assert secret.encode() not in written


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def run(capsys, tmp_path):
    def call(*arguments, url=f"sqlite:///{tmp_path}/test.db"):
        code = main(["pair", *arguments, "--database-url", url], environment={})
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_command_prints_a_link_whose_code_a_running_server_takes(api, run):
    code, out, err = run("--device", "my-phone", "--server-url", api.url + "/", "--token-days", "2")
    assert code == 0
    (link,) = re.findall(r"^http\S+#\S+$", out, re.MULTILINE)
    assert link.startswith(f"{api.url}/agent/web#device=my-phone&code=")
    shown = link.partition("code=")[2]
    assert f"code    {shown}" in out
    assert "ends after 2 days" in out
    assert "127.0.0.1 is this machine itself" in err
    assert err.count("\n") == 1
    # The server of this test lives in January: to its clock the code has not ended.
    assert redeem(api, shown).status_code == 201
    listed = run("--list")[1].splitlines()
    assert listed[1].split()[0] == "my-phone"
    assert "used for token" in listed[1]


def test_open_code_is_listed_and_ended_by_name(run):
    run("--device", "my-phone", "--server-url", "http://127.0.0.1:1")
    assert run("--list")[1].splitlines()[1].endswith("open")
    assert run("--revoke", "my-phone") == (0, "the code of my-phone is ended\n", "")
    code, out, err = run("--revoke", "my-phone")
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "a phone"], "device"),
        (["--device", "p", "--minutes", "0"], "minutes"),
        (["--device", "p", "--minutes", "nan"], "minutes"),
        (["--device", "p", "--token-days", "1e9"], "token-days"),
        (["--device", "p", "--server-url", "lut.example:8700"], "server-url"),
        (["--device", "p", "--server-url", "http://["], "server-url"),
        (["--device", "p", "--server-url", "http://a b:80"], "server-url"),
        (["--device", "p", "--port", "0"], "--server-url"),
    ],
)
def test_wrong_use_is_refused_in_one_line(run, arguments, words):
    more = [] if "--server-url" in arguments or "--port" in arguments else ["--server-url", "http://127.0.0.1:1"]
    code, out, err = run(*arguments, *more)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_server_on_loopback_is_warned_of_with_what_to_do(api):
    own = int(api.url.rpartition(":")[2])

    def reach(*addresses, port=own, scheme="http"):
        return find_reach(None, port, scheme, lambda: [ip_address(address) for address in addresses])

    assert find_server("127.0.0.1", own) == Server("http")
    alone = reach("127.0.0.2")  # where nobody listens
    assert alone.url == api.url.replace("127.0.0.1", "127.0.0.2")
    assert "listens on 127.0.0.1 only" in alone.warning
    assert "--host 0.0.0.0" in alone.warning
    assert "no server answers at https://127.0.0.2:1 yet" in reach("127.0.0.2", port=1, scheme="https").warning
    assert reach("127.0.0.2", "127.0.0.1", scheme="https") == Reach(api.url)
    with pytest.raises(WrongUse, match="no address in a network"):
        reach()


def test_address_of_the_default_route_goes_first_and_those_of_containers_last():
    found = [
        ("127.0.0.1", "lo"),
        ("172.17.0.1", "docker0"),
        ("169.254.7.7", "eth1"),
        ("192.168.1.20", "eth0"),
        ("10.0.0.5", "wlan0"),
        ("fe80::1", "eth0"),
        ("2001:db8::5", "eth0"),
    ]
    ordered = [str(address) for address in order_addresses(found, "192.168.1.20")]
    assert ordered == ["192.168.1.20", "10.0.0.5", "172.17.0.1", "2001:db8::5"]
    assert all(not address.is_loopback for address in network_addresses())


@pytest.mark.parametrize("colour", [True, False])
def test_qr_code_is_drawn_module_by_module(colour):
    text = "http://192.168.100.200:8700/agent/web#device=my-phone&code=ABCD-EFGH-JKMN"
    lines = [re.sub(r"\033\[[0-9;]*m", "", line) for line in qr_lines(text, colour)]
    drawn = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
    rows = [[drawn[letter][half] for letter in line] for line in lines for half in (0, 1)]
    rows = [[1 - module for module in row] for row in rows]  # light modules are drawn
    assert qr_lines(text, colour)[0].startswith("\033[38;5;231;48;5;16m") == colour
    expected = [list(row) for row in segno.make(text, error="m").matrix_iter(border=2)]
    assert rows[: len(expected)] == expected
    assert len(lines[0]) <= 60
    assert len(lines) <= 30


def test_code_is_made_of_chance_alone(store, clock):
    def made(chance):
        return create_code(store.pairings, "p", 1, 1, clock, lambda n: chance[:n]).code

    assert made(b"\0" * 8) == "0000-0000-0000"
    assert made(b"\xff" * 8) == "ZZZZ-ZZZZ-ZZZZ"
    assert len({create_code(store.pairings, "p", 1, 1, clock).code for _ in range(50)}) == 50
    with pytest.raises(InvalidValue):
        create_code(store.pairings, "p", 1e9, 1, clock)
