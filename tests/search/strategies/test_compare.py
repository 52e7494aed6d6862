"""`search compare` from the command line, with a real table server."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from search.cli import main
from shared.spaces import make_space
from shared.wire import canonical_json

SHORT = (
    "--dataset", "digits", "--search-resolution", "8", "--threads", "1", "--precision", "fp32", "--batch-size", "8",
    "--alpha-batch-size", "4", "--alpha-every", "2", "--checkpoint-every", "5", "--evaluations", "6",
)  # fmt: skip

SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1, image_channels=1)


@pytest.fixture(scope="module")
def server(table_of):
    table = table_of(SPACE)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(canonical_json(table))

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def arguments(url, out, *more, steps=2):
    budgets = () if "--max-latency-ms" in more else ("--budgets", "3")
    return [
        "compare", "--device", "testbed", "--lut-url", url, "--out", str(out), *SHORT,
        "--warmup-steps", str(steps), "--search-steps", str(steps), *budgets, *more,
    ]  # fmt: skip


def test_a_comparison_writes_table_json_csv_and_page_and_goes_on_with_more(server, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(arguments(server, out, "--strategies", "dartscc,darts,random,nsga2", "--seeds", "2")) == 0
    shown = capfd.readouterr()
    assert "hypervolume" in shown.out
    assert "±" in shown.out
    found = json.loads((out / "comparison.json").read_text())
    assert set(found["summary"]) == {"dartscc", "darts", "random", "nsga2"}
    assert {(result["strategy"], result["seed"]) for result in found["results"]} == {
        (name, seed) for name in found["summary"] for seed in (0, 1)
    }
    for result in found["results"]:
        assert result["seconds"] > 0
        assert result["evaluations"] <= 6
        assert result["hypervolume"] <= 1
        assert result["distinct"] == len(result["networks"]) or result["strategy"] == "darts"
    rows = list(csv.DictReader((out / "comparison.csv").read_text().splitlines()))
    assert [float(row["hypervolume"]) for row in rows] == [result["hypervolume"] for result in found["results"]]
    page = (out / "comparison.html").read_text()
    assert "<html" in page
    assert "http" not in page.split("</script>")[1].split("<h2>")[0]

    before = {path: path.stat().st_mtime_ns for path in out.glob("units/*/seed-*/unit.json")}
    assert main(arguments(server, out, "--strategies", "dartscc,gdas", "--seeds", "2")) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    added = json.loads((out / "comparison.json").read_text())
    assert set(added["summary"]) == {"dartscc", "darts", "random", "nsga2", "gdas"}
    assert {(result["strategy"], result["seed"]) for result in added["results"]} == {
        (name, seed) for name in added["summary"] for seed in (0, 1)
    }
    assert "nsga2" in capfd.readouterr().out
    assert '"nsga2"' in (out / "comparison.html").read_text()
    assert "nsga2,1," in (out / "comparison.csv").read_text()

    path = out / "units" / "random" / "seed-0" / "unit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "setting": "of another judge"}))
    assert main(arguments(server, out, "--strategies", "dartscc", "--seeds", "1")) == 0
    results = json.loads((out / "comparison.json").read_text())["results"]
    assert len(results) == 9
    assert ("random", 0) not in {(result["strategy"], result["seed"]) for result in results}


def test_sigterm_keeps_what_was_done_and_the_same_command_goes_on(server, tmp_path):
    out = tmp_path / "out"
    command = arguments(server, out, "--strategies", "darts", "--seeds", "1", steps=15)
    process = subprocess.Popen(
        [sys.executable, "-m", "search.cli", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    deadline_s = time.monotonic() + 60
    while not list(out.glob("units/darts/seed-0/updates.pt")) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"the same command goes on" in errors
    assert b"Traceback" not in errors
    assert main(command) == 0
    whole = tmp_path / "whole"
    assert main(arguments(server, whole, "--strategies", "darts", "--seeds", "1", steps=15)) == 0
    found = [json.loads((path / "comparison.json").read_text())["results"] for path in (out, whole)]
    assert [result["networks"] for result in found[0]] == [result["networks"] for result in found[1]]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--strategies", "dart"), "unknown strategy 'dart'"),
        (("--strategies", "darts,darts"), "names a strategy twice"),
        (("--strategies", "random,gdas", "--processor", "cuda"), "gdas computes in fp32 on the CPU"),
        (("--strategies", "random,gdas", "--precision", "bf16"), "gdas computes in fp32 on the CPU"),
        (("--strategies", "darts", "--seeds", "0"), "seeds: 0 is not within"),
        (("--strategies", "darts", "--seed", "3"), "--seeds N"),
        (("--strategies", "darts", "--max-latency-ms", "0.0001"), "0.0001"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(server, tmp_path, capfd, more, words):
    assert main(arguments(server, tmp_path / "out", *more)) == 2
    errors = capfd.readouterr().err.strip().splitlines()
    assert words in errors[-1]
    assert errors[-1].startswith("search: ")


def test_a_comparison_that_was_begun_in_bf16_takes_no_strategy_that_computes_in_fp32(server, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(arguments(server, out, "--strategies", "random", "--seeds", "1", "--precision", "bf16")) == 0
    assert main(arguments(server, out, "--strategies", "random,gdas", "--seeds", "1")) == 2
    assert "was begun in bf16 on cpu, and gdas computes in fp32" in capfd.readouterr().err.strip().splitlines()[-1]


def test_another_number_of_evaluations_is_refused_in_the_same_folder(server, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(arguments(server, out, "--strategies", "gdas", "--seeds", "1")) == 0
    assert main([*arguments(server, out, "--strategies", "gdas", "--seeds", "1"), "--evaluations", "7"]) == 2
    errors = capfd.readouterr().err
    assert "6 evaluations, not" in errors
    assert "7 evaluations; choose another --out" in errors


def test_a_comparison_goes_on_by_its_whole_command_alone(server, tmp_path, capfd):
    out = tmp_path / "out"
    whole = arguments(server, out, "--strategies", "gdas", "--seeds", "1")
    assert main(whole) == 0
    assert main([*whole, "--space", "nas-bench-201", "--threads", "2"]) == 0
    assert "the run keeps its --threads 1" in capfd.readouterr().err
    for command, said in (
        ([*whole, "--preset", "smoke"], "with --whole-space 10000, not 0 of --preset smoke"),
        (without(whole, "--warmup-steps"), "with --warmup-steps 2, not 20000 of --preset standard"),
        (without(whole, "--batch-size"), "with --batch-size 8, not 32"),
        ([*whole, "--dataset", "cifar-10"], "with --dataset digits, not cifar-10"),
        ([*whole, "--space", "darts"], f"with --space {SPACE}, not darts"),
        ([*whole, "--search-resolution", "4"], "with --search-resolution 8, not 4"),
    ):
        assert main(command) == 2
        last = capfd.readouterr().err.strip().splitlines()[-1]
        assert last == f"search: {out} was begun {said}; choose another --out"


def without(command, option):
    place = command.index(option)
    return command[:place] + command[place + 2 :]
