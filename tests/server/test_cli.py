"""The command line as its users meet it: real processes for `serve`, `main()` for the rest."""

import csv
import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from lut_server.calibration.table_builder import build_table
from lut_server.cli import main
from lut_server.store.sql import open_store
from shared.measurements.measurement import Verdict
from shared.tables.table import read_table


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/cli.db"


@pytest.fixture
def run(capsys, url):
    """Runs a command on the test's database; returns exit code, stdout and stderr."""

    def call(*arguments):
        code = main([*arguments, "--database-url", url], environment={})
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def table(url, lab):
    """A finished run in the test's database."""
    store = open_store(url)
    store.devices.register("pi", {})
    store.runs.put(lab.run())
    table = build_table(lab.run(), lab.plan, lab.measure_all(), 2.0)
    store.runs.finish("run-1", table)
    store.close()
    return table


def serve(url, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", url, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_prints_its_url_answers_and_stops_on_a_signal(run, url, number):
    _, token, _ = run("token", "create", "--role", "agent")
    with serve(url, LUTNAS_READS="closed") as process:
        line = process.stdout.readline()
        assert line.startswith("lut-server listening on http://127.0.0.1:")
        base = line.split()[-1]
        assert httpx.get(f"{base}/readyz").json() == {"status": "ready", "schema": "0012"}
        assert httpx.get(f"{base}/v1/devices").status_code == 401
        answer = httpx.get(f"{base}/v1/devices", headers={"Authorization": f"Bearer {token.strip()}"})
        assert answer.json() == {"devices": []}
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == ""
    assert base in err
    assert "GET /readyz" in err
    assert "Traceback" not in err


def test_serve_beyond_loopback_without_a_token_refuses_to_start(run):
    code, out, err = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert (code, out) == (2, "")
    assert "no token exists yet" in err
    assert "lut-server token create --role admin" in err
    assert err.count("\n") == 1


def test_serve_makes_a_first_token_once_where_it_is_asked_to(url):
    tokens = []
    for _ in range(2):
        with serve(url, "--host", "0.0.0.0", LUTNAS_FIRST_TOKEN="yes") as process:
            base = process.stdout.readline().split()[-1].replace("0.0.0.0", "127.0.0.1")
            for token in tokens:
                headers = {"Authorization": f"Bearer {token}"}
                assert httpx.post(f"{base}/v1/devices", json={"name": "pi", "probe": {}}, headers=headers).is_success
            process.terminate()
            _, err = process.communicate(timeout=20)
        tokens += [line.split()[-1] for line in err.splitlines() if "shown this once" in line]
    assert len(tokens) == 1


def test_serve_on_a_taken_port_fails_in_one_line(run):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, out, err = run("serve", "--port", str(other.getsockname()[1]))
    assert (code, out) == (1, "")
    assert err.startswith("lut-server: cannot listen on 127.0.0.1:")
    assert err.count("\n") == 1


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_serve_on_a_host_that_is_no_name_fails_in_one_line(run, host):
    code, out, err = run("serve", "--host", host, "--port", "0", "--first-token", "yes")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"lut-server: host: '{host}' is no host name: ")


def test_token_is_printed_alone_listed_without_its_secret_and_revoked(run):
    code, out, err = run("token", "create", "--role", "agent", "--name", "the pi in the attic", "--device", "pi")
    assert (code, err) == (0, "")
    token = out.strip()
    assert token.startswith("lut_")
    assert len(out.split()) == 1
    listed = run("token", "list")[1]
    assert "the pi in the attic" in listed
    assert token.split("_", 2)[2] not in listed
    assert run("token", "revoke", token.split("_")[1])[0] == 0
    code, _, err = run("token", "revoke", "nothing")
    assert code == 1
    assert "no token has the id 'nothing'" in err


def test_devices_and_tables_are_shown_as_plain_text(run, table):
    assert run("devices")[1].splitlines()[1].split()[:2] == ["pi", "alive"]
    shown = run("table", "show", "--device", "pi", "--space", "nas-bench-201")[1]
    assert table.hash in shown
    assert "on 4 held-out networks" in shown
    for price in table.prices:
        assert price.op_key in shown


def test_export_writes_the_table_as_it_is_served(run, table, tmp_path):
    path = tmp_path / "table.json"
    assert run("export", "--device", "pi", "--out", str(path)) == (0, "", "")
    assert read_table(json.loads(path.read_text())).hash == table.hash
    assert json.loads(run("export", "--device", "pi")[1]) == json.loads(path.read_text())


def test_export_as_csv_has_one_row_per_price_and_one_for_the_base(run, table):
    rows = list(csv.DictReader(io.StringIO(run("export", "--device", "pi", "--format", "csv")[1])))
    assert rows[0]["op_key"] == "base"
    assert float(rows[0]["price_ms"]) == table.base_ms
    assert [(row["op_key"], float(row["price_ms"])) for row in rows[1:]] == [
        (price.op_key, price.price_ms) for price in table.prices
    ]


def test_predict_says_what_the_table_says_of_a_genotype(run, table, tmp_path):
    genotype = table.networks[0].genotype
    code, out, err = run("predict", "--device", "pi", genotype)
    assert (code, err) == (0, "")
    assert out.startswith(f"{genotype}: {table.networks[0].predicted_ms:.4g} ms")
    assert out.rstrip().endswith("by ops)")
    code, out, err = run("predict", "--device", "pi", "--runtime", "CUDAExecutionProvider", genotype)
    assert (code, out) == (1, "")
    assert "CUDAExecutionProvider" in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        ("[1]", "an object expected"),
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"Add/1x4/1x4": 1}', "no price for"),
    ],
)
def test_predict_refuses_kernels_that_it_cannot_price(run, table, tmp_path, content, words):
    path = tmp_path / "kernels.json"
    if content is not None:
        path.write_text(content)
    code, out, err = run("predict", "--device", "pi", "--kernels", str(path))
    assert code in (1, 2)
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_unknown_device_and_missing_table_end_with_one_clear_line(run, table, tmp_path):
    for arguments, words in (
        (("table", "show", "--device", "pear"), "unknown device 'pear' (known: pi)"),
        (("export", "--device", "pi", "--space", "nas-bench-201/r64"), "--resolution 64"),
        (("export", "--device", "pi", "--out", str(tmp_path / "no" / "x")), "cannot write"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "")
        assert words in err
        assert err.count("\n") == 1


def test_migrate_says_where_the_database_is(run, url):
    assert run("migrate") == (0, f"{url} is at schema 0012\n", "")


@pytest.mark.parametrize(
    "arguments", [[], ["boil"], ["token", "create"], ["serve", "--reads", "maybe"], ["serve", "--port", "x"]]
)
def test_wrong_use_exits_with_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments, environment={})
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        (["--port", "99999"], {}, "port: 99999 is not within"),
        ([], {"LUTNAS_PORT": "many"}, "LUTNAS_PORT: 'many' is not a whole number"),
        ([], {"LUTNAS_READS": "maybe"}, "reads: 'maybe' is neither open nor closed"),
        (["--max-body-mb", "0"], {}, "max_body_mb: 0 is not within"),
    ],
)
def test_setting_outside_its_domain_exits_with_2_and_names_it(capsys, flags, environment, words):
    assert main(["serve", *flags], environment=environment) == 2
    assert words in capsys.readouterr().err


def test_tables_of_several_runtimes_are_listed_and_chosen_by_parts_of_the_runtime(run, url, lab, table):
    other = dataclasses.replace(lab.run(), id="run-2", runtime=dataclasses.replace(lab.runtime, threads=4))
    store = open_store(url)
    store.runs.put(other)
    store.runs.finish("run-2", build_table(other, lab.plan, lab.measure_all(), 2.0))
    store.close()
    code, said, _ = run("table", "list", "--device", "pi")
    assert code == 0
    assert [line.split()[2] for line in said.splitlines()[1:]] == [str(lab.runtime), str(other.runtime)]
    for wanted, found in (
        ((), other.runtime),
        (("--runtime", "threads=1"), lab.runtime),
        (("--runtime", "threads=4/CPUExecutionProvider"), other.runtime),
        (("--runtime", str(lab.runtime), "--space", "nas-bench-201"), lab.runtime),
    ):
        code, said, _ = run("table", "show", "--device", "pi", *wanted)
        assert code == 0
        assert f"runtime  {found}\n" in said
    code, _, said = run("table", "show", "--device", "pi", "--runtime", "CUDAExecutionProvider")
    assert code == 1
    assert str(lab.runtime) in said
    assert run("table", "list", "--device", "nobody")[0] == 1


def test_a_reason_against_a_price_is_shown_beside_it(run, url, lab, table):
    reason = "2 of 9 nodes ran on CPUExecutionProvider instead of XnnpackExecutionProvider (Slice)"
    first, *rest = lab.measure_all()
    doubted = dataclasses.replace(first, verdict=Verdict(False, (reason,)))
    store = open_store(url)
    store.runs.put(dataclasses.replace(lab.run(), id="run-2"))
    store.runs.finish("run-2", build_table(lab.run(), lab.plan, [doubted, *rest], 2.0))
    store.close()
    (row,) = [line for line in run("table", "show", "--device", "pi")[1].splitlines() if line.endswith(reason)]
    assert row.startswith(first.subject)
    assert f"no: {reason}" in row
