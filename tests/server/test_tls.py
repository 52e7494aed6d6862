"""`serve --tls self-signed`: what is made, who trusts it, when it is renewed."""

import asyncio
import hashlib
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest
import uvicorn

from lut_server.pairing.reachable_urls import check_url, find_server
from lut_server.serving import AnnouncingServer
from lut_server.settings import Settings, split_names
from lut_server.tls.own_certificate import OwnCertificate, own_names
from shared.errors import CorruptFile, InvalidValue, LutnasError

DAY_S = 86_400


def command(*arguments):
    return [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--tls", "self-signed", *arguments]


@contextmanager
def served(*arguments):
    """A server process: its port, and what it said on stderr before it listened."""
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stderr.readline()
            url = process.stdout.readline().split()[-1]
            assert url.startswith("https://127.0.0.1:")
            yield int(url.rpartition(":")[2]), said
        finally:
            process.terminate()
            process.communicate(timeout=20)


def shown(port):
    """SHA-256 of the certificate that a server shows."""
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest().hex(":").upper()


def test_server_makes_a_certificate_once_that_its_authority_vouches_for(tmp_path):
    database = ("--database-url", f"sqlite:///{tmp_path}/lut.db")
    folder = tmp_path / "lut-tls"
    with served(*database, "--tls-names", "lut.example, 192.0.2.7") as (port, said):
        assert f"SHA-256 {shown(port)}" in said
        assert str(folder / "ca.pem") in said
        trusting = ssl.create_default_context(cafile=folder / "ca.pem")
        trusting.verify_flags |= ssl.VERIFY_X509_STRICT
        with httpx.Client(verify=trusting) as http:
            for host in ("127.0.0.1", "localhost"):
                answer = http.get(f"https://{host}:{port}/healthz")
                assert answer.json() == {"status": "ok"}
        # A browser that kept to HTTPS for a year could not go back to plain HTTP.
        assert "strict-transport-security" not in answer.headers
        reach = check_url(f"https://127.0.0.1:{port}")
        assert find_server("127.0.0.1", port).fingerprint == shown(port)
        assert "this machine itself" in reach.warning
    with served(*database, "--tls-names", "lut.example") as (port, again):
        assert again == said
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o600}


@pytest.fixture
def names():
    return ["localhost", "192.168.1.20"]


@pytest.fixture
def own(tmp_path, clock, names):
    return OwnCertificate(tmp_path / "tls", ("lut.example",), clock, lambda: names)


def test_certificate_is_renewed_before_it_ends_and_the_authority_stays(own, clock):
    first = own.ensure()
    authority = first.authority.read_bytes()
    clock.advance(334 * DAY_S)
    assert own.ensure() == first
    clock.advance(2 * DAY_S)
    second = own.ensure()
    assert second.fingerprint != first.fingerprint
    assert second.authority.read_bytes() == authority


def test_certificate_is_renewed_for_a_new_address_and_not_for_one_that_is_gone(own, names):
    first = own.ensure()
    names.remove("192.168.1.20")
    assert own.ensure() == first
    names.append("10.0.0.5")
    second = own.ensure()
    assert second.fingerprint != first.fingerprint
    assert own.ensure() == second


def test_authority_that_would_end_before_its_certificate_is_replaced(own, clock):
    first = own.ensure().authority.read_bytes()
    clock.advance(3280 * DAY_S)
    own.ensure()
    assert own.ensure().authority.read_bytes() == first
    clock.advance(10 * DAY_S)
    assert own.ensure().authority.read_bytes() != first


def test_servers_that_start_at_once_on_one_folder_have_one_authority(tmp_path, clock, names):
    servers = [OwnCertificate(tmp_path / "tls", (), clock, lambda: names) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda certificate: certificate.ensure(), servers))
    last = servers[0].ensure()
    context = ssl.create_default_context(cafile=last.authority)
    assert context.cert_store_stats()["x509_ca"] == 1
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(last.path)
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == ["ca-key.pem", "ca.pem", "server.pem"]


def test_running_server_shows_the_renewed_certificate_to_new_connections(own, names):
    async def app(scope, receive, send):
        raise AssertionError("nothing is asked for")

    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, ssl_certfile=own.ensure().path, log_level="warning", lifespan="off"
    )
    server = AnnouncingServer(config, lambda url: None, own)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        first = own.ensure().fingerprint
        assert shown(port) == first
        names.append("10.0.0.5")
        assert shown(port) == first
        asyncio.run(server.on_tick(36_000))
        assert shown(port) == first
        asyncio.run(server.on_tick(2 * 36_000 - 1))  # two hours after its start
        assert shown(port) == own.ensure().fingerprint != first
    finally:
        server.should_exit = True
        thread.join()


def test_what_is_no_certificate_is_left_alone_and_named(own):
    path = own.ensure().path
    path.write_text("not a certificate")
    with pytest.raises(CorruptFile, match=r"server\.pem"):
        own.ensure()
    assert path.read_text() == "not a certificate"
    path.unlink()
    path.write_bytes((path.parent / "ca-key.pem").read_bytes().partition(b"-----BEGIN CERT")[0])
    with pytest.raises(CorruptFile, match="move it away"):
        own.ensure()
    path.unlink()
    own.ensure()


def test_certificate_of_another_authority_is_replaced(own):
    first = own.ensure()
    (first.path.parent / "ca-key.pem").unlink()
    second = own.ensure()
    assert second.fingerprint != first.fingerprint
    ssl.create_default_context(cafile=second.authority)


def test_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path, clock, names):
    (tmp_path / "file").touch()
    with pytest.raises(LutnasError, match="cannot keep a certificate in") as caught:
        OwnCertificate(tmp_path / "file" / "tls", (), clock, lambda: names).ensure()
    assert "\n" not in str(caught.value)


def test_machine_names_itself_without_what_a_certificate_cannot_hold():
    found = own_names()
    assert {"localhost", "127.0.0.1", "::1"} <= set(found)
    assert all(re.fullmatch(r"[A-Za-z0-9.:-]+", name) for name in found)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InvalidValue, match="tls: "):
        Settings(tls="self-signed", tls_cert="a", tls_key="b")
    with pytest.raises(InvalidValue, match="tls_names: 'a b'"):
        Settings(tls_names="ok.example, a b")
    assert split_names(" x, 10.0.0.1,") == ("x", "10.0.0.1")
    assert [Settings(tls=tls).scheme for tls in ("off", "self-signed")] == ["http", "https"]


def test_beside_postgresql_a_folder_has_to_be_named(postgres_url):
    finished = subprocess.run(command("--database-url", postgres_url), capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith("lut-server: tls_dir: is needed")
    assert finished.stderr.count("\n") == 1


def test_without_cryptography_the_extra_is_named(tmp_path):
    program = (
        "import sys; sys.modules['cryptography'] = None; from lut_server.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["serve", "--port", "0", "--tls", "self-signed", "--database-url", f"sqlite:///{tmp_path}/a.db"]
    finished = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 1
    assert finished.stderr == "lut-server: --tls self-signed needs cryptography: pip install 'lutnas[tls]'\n"


def test_handshakes_that_do_not_come_are_connections_too(tmp_path):
    limits = ("--max-connections", "20", "--max-head-s", "2")
    with served("--database-url", f"sqlite:///{tmp_path}/lut.db", *limits) as (port, _), ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        began_s = time.monotonic()
        trusting = ssl.create_default_context(cafile=tmp_path / "lut-tls" / "ca.pem")
        with httpx.Client(verify=trusting, timeout=10) as http:
            assert http.get(f"https://127.0.0.1:{port}/healthz").status_code == 200
        for each, when_s in ((silent[0], 1.5), (silent[-1], 6)):  # the oldest give way at once, the rest in time
            each.settimeout(10)
            with suppress(ConnectionResetError):
                assert each.recv(1) == b""
            assert time.monotonic() - began_s < when_s
