"""A server whose certificate is its own: agents and searches trust it by its authority's file, or
say what to do.
"""

import argparse
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from lut_server.auth import create_token
from lut_server.store.sql import open_store
from profiler_agent.cli import main
from profiler_agent.server.server_client import ServerClient
from search.commands.server import connect
from shared.errors import UntrustedServer
from shared.http.retry import is_passing
from shared.runtime import Runtime


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """URL, token and authority of a running server."""
    folder = tmp_path_factory.mktemp("secure")
    database = f"sqlite:///{folder}/lut.db"
    store = open_store(database)
    token = create_token(store.tokens, "agent")
    store.close()
    with serving(database) as url:
        yield url, token, str(folder / "lut-tls" / "ca.pem")


@contextmanager
def serving(database):
    command = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--tls", "self-signed"]
    with subprocess.Popen(
        [*command, "--database-url", database], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()
            process.communicate(timeout=20)


@pytest.fixture
def upload(tmp_path, capsys):
    def run(url, *arguments):
        code = main(["upload", "--server", url, "--spool", str(tmp_path / "spool"), *arguments])
        return code, capsys.readouterr().err

    return run


def test_file_of_the_authority_makes_the_server_trusted(secure, monkeypatch, capsys):
    url, token, authority = secure
    work = ["work", "--server", url, "--device", "pi", "--token", token, "--once"]
    assert main([*work, "--ca-file", authority]) == 0
    monkeypatch.setenv("LUTNAS_CA_FILE", authority)
    assert main(work) == 0
    runtime = str(Runtime("onnxruntime", "1.31.0"))
    with connect(url, argparse.Namespace(environment=os.environ)) as client:
        assert client.get_kernel_counts("pi", "nas-bench-201/r8/c4/n1/k10/i3", runtime) == {}


def test_without_it_one_line_says_what_to_do(secure, monkeypatch, capsys):
    url, token, _ = secure
    monkeypatch.delenv("LUTNAS_CA_FILE", raising=False)
    code = main(["work", "--server", url, "--device", "pi", "--token", token, "--once"])
    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith(f"profiler-agent: the certificate of {url} is not trusted (self-signed certificate in")
    assert "set LUTNAS_CA_FILE or --ca-file to a copy of the ca.pem" in said
    assert "--ca-file" in said
    assert said.count("\n") == 1
    nothing = argparse.Namespace(environment={})
    with connect(url, nothing) as client, pytest.raises(UntrustedServer, match="LUTNAS_CA_FILE"):
        client.get_kernel_counts("pi", "s", "r")


def test_another_name_than_the_certificates_is_said_to_be_one(secure):
    url, token, authority = secure
    elsewhere = url.replace("127.0.0.1", "127.1")  # the same place by another name
    with ServerClient(elsewhere, token, ca_file=authority) as client, pytest.raises(UntrustedServer) as caught:
        client.register_device("pi", {})
    assert "127.1" in str(caught.value)
    assert "--tls-names" in str(caught.value)
    assert not is_passing(caught.value)


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("no certificate", "no certificate in PEM")])
def test_file_that_holds_no_certificate_is_wrong_use(secure, tmp_path, upload, content, words):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    code, said = upload(secure[0], "--ca-file", str(path))
    assert code == 2
    assert said.startswith(f"profiler-agent: ca-file: cannot use {path}: ")
    assert words in said
    assert said.count("\n") == 1
