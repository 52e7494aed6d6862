"""`search pick --device OTHER`: a finished run is asked about a device that was not in it."""

import json
import shutil
from dataclasses import replace

import pytest

from search.cli import main
from search.family.family import FamilySettings, build_families
from search.process.progress import SilentProgress
from search.runs.run_directory import RunDirectory
from search.training.training import Trainer
from shared.spaces import make_space


@pytest.fixture
def server(serve, table):
    """Has the table of the device that the run was searched for; tests add others."""
    return serve(table)


@pytest.fixture(scope="module")
def finished(config, table, digits, tmp_path_factory):
    """The folder of a short search. Tests copy it."""
    config = replace(config, lut_url="http://127.0.0.1:9", warmup_steps=3, search_steps=3)
    run = RunDirectory.create(tmp_path_factory.mktemp("finished") / "run", config, table)
    Trainer(run, digits).train(SilentProgress())
    build_families(run, SilentProgress(), FamilySettings(trade_offs=2, budgets=6, candidates=12))
    return run.path


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def slower(table):
    prices = tuple(replace(one, price_ms=(1 + i % 3) * one.price_ms) for i, one in enumerate(table.prices))
    return replace(table, device="slower", prices=prices, base_ms=0.1)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_table_alone_is_enough_and_the_run_keeps_it(run, server, slower, tmp_path, capfd):
    server.tables["slower"] = slower
    asked = ["pick", "--run", str(run), "--device", "slower", "--max-latency-ms", "5", "--json"]
    own = json.loads((run / "family.json").read_text())
    assert main([*asked, "--lut-url", server.url]) == 0
    first = json.loads(capfd.readouterr().out)
    genotype = make_space("nas-bench-201", resolution=16, channels=4, depth=1).parse(first["best"]["genotype"])
    assert first["best"]["predicted_ms"] == pytest.approx(slower.predict(genotype).mean_ms)
    assert first["best"]["upper_ms"] <= 5
    assert json.loads((run / "family.json").read_text()) == own
    del server.tables["slower"]  # from now on the run's folder is enough
    assert main(asked) == 0
    assert json.loads(capfd.readouterr().out) == first
    out = tmp_path / "member.onnx"
    export = ["export", "--run", str(run), "--device", "slower", "--max-latency-ms", "5", "--tune-epochs", "0"]
    assert main([*export, "--out", str(out)]) == 0
    assert "on slower; test accuracy" in capfd.readouterr().out
    assert main(["report", "--run", str(run), "--device", "slower"]) == 0
    assert "on slower" in (run / "devices" / "slower" / "report.html").read_text()


def test_what_cannot_be_asked_is_said_in_one_line_and_leaves_the_run_as_it_was(run, server, slower, table, capfd):
    other_space = make_space("nas-bench-201", resolution=16, channels=8, depth=1)
    server.tables["wide"] = replace(table, device="wide", space=str(other_space))
    fewer = replace(slower, prices=table.prices[2:], covariance=tuple(row[2:] for row in slower.covariance[2:]))
    server.tables["lacking"] = replace(fewer, device="lacking")
    server.tables["int8"] = replace(table, device="int8", runtime=replace(table.runtime, precision="int8"))
    server.tables["slower"] = slower
    before = files(run)
    for device, *said in (
        ("nowhere", "unknown device (known: bench"),
        ("wide", f"that of bench is of {table.space}, that of wide of {other_space}", "profiler-agent profile"),
        ("lacking", table.prices[0].op_key, table.prices[1].op_key, "--device lacking --space nas-bench-201"),
        ("int8", "is of int8 on int8; networks are exported in fp32"),
        ("../run", "'../run' is not a name"),
    ):
        asked = ["pick", "--run", str(run), "--device", device, "--max-latency-ms", "5"]
        assert main([*asked, "--lut-url", server.url]) in (1, 2)
        errors = capfd.readouterr().err
        assert all(words in errors for words in said), (device, errors)
        assert errors.count("\n") == 1
        assert files(run) == before
    assert main(["pick", "--run", str(run), "--device", "slower", "--max-latency-ms", "5"]) == 1
    assert "the run has no device slower (it has: bench), and no answer from http://127.0.0.1:9" in (
        capfd.readouterr().err
    )
    asked = ["pick", "--run", str(run), "--device", "slower", "--max-latency-ms", "0.001"]
    assert main([*asked, "--lut-url", server.url]) == 2
    assert "no network meets 0.001 ms on slower: the fastest needs" in capfd.readouterr().err


def test_an_unfinished_run_says_so_first(run, server, slower, capfd):
    server.tables["slower"] = slower
    (run / "family.json").unlink()
    before = files(run)
    assert main(["pick", "--run", str(run), "--device", "slower", "--max-latency-ms", "5"]) == 2
    assert "has no family yet: the search has to finish first (--resume)" in capfd.readouterr().err
    assert files(run) == before
