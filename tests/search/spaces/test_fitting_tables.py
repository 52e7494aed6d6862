"""Errors about a table that does not fit, before anything is written."""

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from search.cli import main
from shared.tables.table_source import TableSource
from shared.wire import canonical_json


@pytest.fixture
def serve():
    """Start a server that answers every request with the same table. Returns its URL."""
    servers = []

    def start(table):
        content = canonical_json(table)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def search(url, space, out, *more):
    arguments = ["--device", "testbed", "--lut-url", url, "--space", space, "--dataset", "digits", "--out", str(out)]
    return main([*arguments, *more])


def test_a_table_of_another_space_is_refused_and_both_are_named(space, table_of, serve, tmp_path, capsys):
    other = "fbnet" if space.name == "darts" else "darts"
    assert search(serve(table_of(space)), other, tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert f"asked for {other}, the table of testbed has {space.name} ({space})" in said
    assert search(serve(table_of(space)), space.name, tmp_path / "run", "--depth", "9") == 2
    said = capsys.readouterr().err
    assert f"asked for 9, the table of testbed has {space.depth} ({space}); a table that fits: profiler-agent" in said
    assert not (tmp_path / "run").exists()


def test_imported_table_of_other_classes_is_told_what_is_possible(space, table_of, serve, tmp_path, capsys):
    table = table_of(replace(space, classes=3))
    source = TableSource("per-architecture", "times of others.csv", "0" * 64, "pi 4")
    assert search(serve(replace(table, source=source)), space.name, tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "digits has 10 classes" in said
    command = "lut-server import 'times of others.csv' --device testbed --column 'pi 4'"
    assert f"{command} --space {replace(space, classes=10)}; or images of 3 classes" in said
    assert "profiler-agent" not in said
    assert search(serve(replace(table, source=source)), space.name, tmp_path / "run", "--depth", "9") == 2
    assert "and nobody here can measure testbed anew" in capsys.readouterr().err
    lacking = replace(table, prices=table.prices[2:], covariance=tuple(row[2:] for row in table.covariance[2:]))
    assert search(serve(replace(lacking, source=source)), space.name, tmp_path / "run") != 0
    assert "profiler-agent" not in capsys.readouterr().err


def test_missing_entries_are_listed_with_the_command_that_measures_them(space, table_of, serve, tmp_path, capsys):
    table = table_of(space)
    lacking = replace(table, prices=table.prices[2:], covariance=tuple(row[2:] for row in table.covariance[2:]))
    assert search(serve(lacking), space.name, tmp_path / "run") != 0
    said = capsys.readouterr().err
    assert table.prices[0].op_key in said
    assert table.prices[1].op_key in said
    assert f"profiler-agent profile --lut-url URL --device testbed --space {space.name}" in said
    assert not (tmp_path / "run").exists()
