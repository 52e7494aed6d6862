"""The command `profile`, run as a user runs it, against a server over HTTP and with real ONNX
Runtime.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from profiler_agent.cli import main
from profiler_agent.server.server_client import ServerClient
from profiler_agent.server.upload import Uploader
from profiler_agent.spool.spool import Spool
from shared.errors import ServerRefused

PROGRAM = [sys.executable, "-m", "profiler_agent"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def everything_once(server, agent):
    """Each measurement of one run is there exactly once; returns its run's id."""
    ((run_id, measurements),) = server.measurements.items()
    assert len(measurements) == agent.tasks
    assert len({(measurement.role, measurement.graph) for measurement in measurements.values()}) == agent.tasks
    return run_id


def test_a_profile_measures_uploads_and_prints_its_table(server, agent, capsys):
    assert main(agent.profile) == 0
    said = capsys.readouterr().out
    run_id = everything_once(server, agent)
    (table,) = server.tables.values()
    assert table["runs"] == [run_id]
    assert re.search(r"^table +[0-9a-f]{64}$", said, re.MULTILINE)
    assert f"{server.url}/v1/devices/bench/table?space=nas-bench-201/r8/c4/n1/k3/i3" in said
    for measurement in server.measurements[run_id].values():
        assert 6 <= len(measurement.rounds) <= 10
        assert measurement.estimate().ratio > -0.05


def test_a_second_profile_finds_the_table_and_measures_nothing(server, agent, capsys):
    assert main(agent.profile) == 0
    server.requests.clear()
    assert main(agent.profile) == 0
    assert "has this table already" in capsys.readouterr().out
    assert not [request for request in server.requests if "graph" in request or "measurements" in request]
    assert len(server.runs) == 1


def test_new_measures_again(server, agent):
    assert main(agent.profile) == 0
    assert main([*agent.profile, "--new"]) == 0
    assert len(server.runs) == 2


def test_graphs_are_fetched_once_and_then_only_asked_after(server, agent):
    statuses = []
    route = server.route
    server.route = lambda method, path, *rest: statuses.append((path[0], (a := route(method, path, *rest))[0])) or a
    assert main(agent.profile) == 0
    assert main([*agent.profile, "--new"]) == 0
    graphs = [status for name, status in statuses if name == "graph"]
    assert graphs == [200] * (len(graphs) // 2) + [304] * (len(graphs) // 2)


def test_a_server_that_goes_away_gets_everything_later(server, agent, capsys):
    def go_away(method, path):
        if path.endswith("/measurements"):
            raise agent.Refusal(503, "unavailable", "shutting down")

    server.before = go_away
    assert main(agent.profile) == 1
    said = capsys.readouterr().err
    assert f"spooled {agent.tasks} measurements in" in said
    assert f"profiler-agent upload --spool {agent.spool} --lut-url {server.url}" in said
    assert server.measurements == {}
    server.before = lambda method, path: None
    assert main(["upload", *agent.connection]) == 0
    everything_once(server, agent)
    assert len(server.tables) == 1
    assert main(["upload", *agent.connection]) == 0
    assert "nothing to upload" in capsys.readouterr().out


def test_measuring_goes_on_without_a_server_when_plan_and_graphs_are_known(server, agent, capsys):
    assert main(agent.profile) == 0
    server.stop()
    assert main([*agent.profile, "--new"]) == 1
    assert f"spooled {agent.tasks} measurements in" in capsys.readouterr().err
    server.start()
    assert main(agent.profile) == 0
    assert len(server.runs) == 2
    assert all(len(measurements) == agent.tasks for measurements in server.measurements.values())


def test_without_server_and_without_plan_it_says_so(server, agent, capsys):
    server.stop()
    assert main(agent.profile) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"profiler-agent: no answer from {server.url}")


def test_an_upload_that_broke_off_goes_on_with_what_the_server_lacks(server, agent):
    posts, refused = [], {1, 4}

    def refuse_some(method, path):
        if path.endswith("/measurements"):
            posts.append(path)
            if len(posts) in refused:
                raise agent.Refusal(413, "too_large", "not today")

    server.before = refuse_some
    assert main(agent.profile) == 1
    (spooled,) = Spool(agent.spool).runs()
    with ServerClient(server.url, "secret-of-the-agent") as client:
        uploader = Uploader(client, batch=5)
        with pytest.raises(ServerRefused, match="not today"):
            uploader.upload_run(spooled)
        assert len(server.measurements[spooled.run.id]) == 10
        assert uploader.upload_run(spooled) == agent.tasks - 10
    assert len(posts) == 1 + 3 + 4
    assert main(agent.profile) == 0
    everything_once(server, agent)


def test_a_server_that_lost_its_database_gets_everything_again(server, agent):
    def refuse_tables(method, path):
        if path.endswith("/finish"):
            raise agent.Refusal(422, "invalid", "not today")

    server.before = refuse_tables
    assert main(agent.profile) == 1
    server.before = lambda method, path: None
    kept = next(iter(server.measurements.values()))
    server.runs, server.devices, server.measurements = {}, {}, {}
    assert main(["upload", *agent.connection]) == 0
    everything_once(server, agent)
    assert next(iter(server.measurements.values())) == kept


def test_a_wrong_token_is_said_before_anything_is_measured(server, agent, capsys):
    arguments = [value if value != "secret-of-the-agent" else "wrong" for value in agent.profile]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "(401)" in said
    assert "LUTNAS_TOKEN" in said
    assert "wrong" not in said
    assert not server.runs


def test_a_page_of_another_server_is_said_to_be_one(server, agent, capsys):
    server.before = lambda method, path: b"<html>Welcome to nginx!</html>"
    assert main(agent.profile) == 1
    assert "does not speak as a lut-server does" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--resolution", "7"], "resolution"),
        (["--threads", "0"], "runtime.threads"),
        (["--device", "two words"], "device"),
        (["--space", "cells"], "unknown space 'cells'"),
        (["--batch", "-1"], "runtime.batch"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(agent, capsys, flags, said):
    assert main([*agent.profile, *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_model_that_does_not_load_is_named_and_left_out(server, agent, capsys):
    broken = "chain:8:nor_conv_1x1/4x8x8/4x8x8/s1"
    server.models[broken] = b"not a model"
    assert main(agent.profile) == 1
    said = capsys.readouterr().err
    assert broken in said
    assert "1 graphs could not be measured" in said
    assert len(next(iter(server.measurements.values()))) == agent.tasks - 1
    assert not any("finish" in request for request in server.requests)
    assert main([*agent.profile, "--force"]) == 1
    assert "1 of 29 tasks have no measurement" in capsys.readouterr().err


def test_a_canary_that_does_not_load_ends_the_run(server, agent, capsys):
    server.models["canary:conv-v1"] = b"dead"
    assert main(agent.profile) == 1
    assert "without the canary nothing can be measured" in capsys.readouterr().err


FULL_AT_80_KB = """
import resource, sys
from profiler_agent.cli import main
from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.spool import Spool
from profiler_agent.server.upload import Uploader
from shared.errors import ServerRefused
resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_ends_the_run_with_a_clear_line_and_nothing_is_lost(server, agent):
    full = subprocess.run(
        [sys.executable, "-c", FULL_AT_80_KB, *agent.profile, "--preset", "standard"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert full.returncode == 1
    assert re.search(r"no space left for .*rounds\.jsonl", full.stderr.splitlines()[-1])
    assert main(agent.profile) == 0
    everything_once(server, agent)
    assert len(server.runs) == 1


def wait_for_rounds(agent, fewest, process):
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        lines = sum(path.read_bytes().count(b"\n") for path in agent.spool.glob("runs/*/rounds.jsonl"))
        if lines >= fewest:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("the agent measures nothing")


def start(agent):
    return subprocess.Popen(
        [*PROGRAM, *agent.profile], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_same_command_goes_on(server, agent, number):
    process = start(agent)
    wait_for_rounds(agent, 20, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith("the same command goes on from there")
    assert "Traceback" not in said
    rounds = {path: path.read_bytes() for path in agent.spool.glob("runs/*/rounds.jsonl")}
    assert main(agent.profile) == 0
    everything_once(server, agent)
    for path, before in rounds.items():
        assert path.read_bytes().startswith(before)


def test_kills_at_random_points_lose_nothing_and_measure_nothing_twice(server, agent):
    rng = random.Random(7)
    for fewest in (1, rng.randrange(10, 60), rng.randrange(60, 110)):
        process = start(agent)
        wait_for_rounds(agent, fewest, process)
        process.kill()
        process.communicate()
    assert main(agent.profile) == 0
    run_id = everything_once(server, agent)
    assert len(server.runs) == 1
    # Each measurement holds exactly the rounds that were written down, none twice.
    lines = (agent.spool / "runs" / run_id / "rounds.jsonl").read_bytes().splitlines()
    assert (
        sum(len(measurement.rounds) for measurement in server.measurements[run_id].values())
        == len(lines)
        == len(set(lines))
    )


def test_help_is_quick_and_loads_neither_onnxruntime_nor_httpx(agent):
    code = "import sys, profiler_agent.cli; print({'onnxruntime', 'httpx', 'numpy', 'onnx'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_probe_prints_text_and_json(capsys):
    assert main(["probe"]) == 0
    assert "onnxruntime" in capsys.readouterr().out
    assert main(["probe", "--json"]) == 0
    assert '"providers"' in capsys.readouterr().out
