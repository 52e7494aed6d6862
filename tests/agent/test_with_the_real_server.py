"""Agent and lut-server as two programs: profile, kill, resume, verify."""

import json
import os
import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("lut_server.app", reason="the server is not installed")

from profiler_agent.cli import main
from profiler_agent.ort.sessions import find_version
from profiler_agent.server.server_client import ServerClient
from shared.errors import ServerAway
from shared.jobs import NewJob, Promise
from shared.measurements.graph_spec import CanaryGraph, NetworkGraph
from shared.runtime import Runtime
from shared.spaces import make_space
from shared.wire import to_wire

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
SIZES = "--resolution 8 --channels 4 --cells-per-stage 1 --classes 3 --calibration 12 --held-out 6 --preset quick"
TASKS = 2 * 12 + 18


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    return tmp_path_factory.mktemp("spool")


def agent(real, spool, *arguments):
    connection = ["--server", real.url, "--token", real.token, "--spool", str(spool), "--device", "bench"]
    return [sys.executable, "-m", "profiler_agent", arguments[0], *connection, *arguments[1:]]


@pytest.fixture(scope="module")
def profiled(real, spool):
    """A profile that was killed twice and then went through; its run."""
    command = agent(real, spool, "profile", "--space", "nas-bench-201", *SIZES.split())
    rng = random.Random(time.time_ns())
    for _ in range(2):
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 2.5))
        process.kill()
        process.wait()
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_after_kills_each_measurement_is_there_exactly_once(real, profiled):
    (stored,) = real.ask("GET", "/v1/runs?device=bench")["runs"]
    run = stored["run"]
    measurements = real.ask("GET", f"/v1/runs/{run['id']}/measurements")["measurements"]
    assert len(measurements) == TASKS
    assert len({measurement["graph"] for measurement in measurements}) == TASKS
    assert real.ask("GET", f"/v1/runs/{run['id']}")["finished"] is True


def test_the_printed_table_is_the_one_that_the_server_serves(real, profiled):
    table_hash = re.search(r"^table +(\w+)$", profiled.stdout, re.MULTILINE).group(1)
    served = real.ask("GET", "/v1/devices/bench/table?space=nas-bench-201/r8/c4/n1/k3/i3")
    assert served == real.ask("GET", f"/v1/tables/{table_hash}")
    assert "on 6 held-out networks " in profiled.stdout
    for predictor in ("kernel prices", "op prices", "sum of marginal costs", "sum of isolated timings"):
        assert f"\n{predictor} " in profiled.stdout


def test_profiling_again_measures_nothing(real, spool, profiled):
    again = subprocess.run(
        agent(real, spool, "profile", "--space", "nas-bench-201", *SIZES.split()),
        env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "has this table already" in again.stdout
    assert len(real.ask("GET", "/v1/runs?device=bench")["runs"]) == 1


def test_a_verification_job_comes_back_in_the_tables_milliseconds(real, spool, profiled):
    space = make_space("nas-bench-201", resolution=8, channels=4, depth=1, classes=3)
    genotype = space.fastest()
    table_hash = re.search(r"^table +(\w+)$", profiled.stdout, re.MULTILINE).group(1)
    promise = Promise(table_hash, space.format(genotype), 1.0, 1.1, 1000.0)
    job = NewJob(
        "bench", "verify", Runtime("onnxruntime", find_version()), str(CanaryGraph()), str(space),
        str(NetworkGraph(space, genotype)), promise,
    )  # fmt: skip
    queued = real.ask("POST", "/v1/jobs", to_wire(job))["job"]
    worked = subprocess.run(
        agent(real, spool, "work", "--once", "--preset", "quick"),
        env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert worked.returncode == 0, worked.stderr
    done = real.ask("GET", f"/v1/jobs/{queued['id']}")["job"]
    assert done["state"] == "done", done
    assert done["verification"]["met"] is True
    assert 0 < done["verification"]["measured_ms"] < 1000
    assert len(done["job"]["references"]) == 4
    assert 0.3 < done["verification"]["state"] < 3
    assert re.search(f"table {table_hash[:12]} (holds|no longer holds)", worked.stderr)
    assert real.ask("GET", "/v1/devices/bench")["device"]["status"]["check"]["table"] == table_hash


def test_a_table_is_checked_at_any_time(real, spool, profiled):
    table_hash = re.search(r"^table +(\w+)$", profiled.stdout, re.MULTILINE).group(1)
    checked = ask_agent(real, spool, "check")
    assert checked.returncode in (0, 1), checked.stderr
    assert checked.stdout.startswith(f"table {table_hash[:12]} ")
    assert "8 of its networks, timed again" in checked.stdout
    told = real.ask("GET", "/v1/devices/bench")["device"]["status"]["check"]
    assert (told["table"], told["networks"]) == (table_hash, 8)
    stranger = ask_agent(real, spool, "check", "--device", "stranger")
    assert (stranger.returncode, stranger.stdout) == (1, "")
    assert "unknown device 'stranger'" in stranger.stderr


def test_a_check_is_printed_although_the_server_does_not_hear_of_it(real, spool, profiled, monkeypatch, capsys):
    def away(*arguments):
        raise ServerAway("no answer")

    monkeypatch.setattr(ServerClient, "report_status", away)
    connection = ("--server", real.url, "--token", real.token, "--spool", str(spool))
    assert main(["check", *connection, "--device", "bench"]) in (0, 1)
    said = capsys.readouterr()
    assert "8 of its networks, timed again" in said.out
    assert "the server was not told: no answer" in said.err


def test_a_run_made_offline_becomes_a_table_when_its_file_is_handed_in(real, tmp_path):
    file, spool_flags = str(tmp_path / "run.json"), ["--spool", str(tmp_path / "spool")]
    program = [sys.executable, "-m", "profiler_agent"]
    profile = ["profile", "--offline", "--out", file, *spool_flags, "--device", "afield", "--space", "nas-bench-201"]
    done = subprocess.run(
        [*program, *profile, *SIZES.split(), "--preset", "standard", "--seconds-per-task", "0.05"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    upload = [*program, "upload", file, "--server", real.url, "--token", real.token]
    said = [subprocess.run(upload, env=ENVIRONMENT, capture_output=True, text=True, timeout=60) for _ in range(2)]
    assert [done.returncode for done in said] == [0, 0], said[0].stderr + said[1].stderr
    assert said[0].stdout == said[1].stdout
    table_hash = re.search(r"table (\w{64})", said[0].stdout).group(1)
    table = real.ask("GET", f"/v1/tables/{table_hash}")
    assert table["device"] == "afield"
    assert table["settled"] is not None, "the networks that were timed again are handed in, too"


def test_a_file_of_ones_own_is_predicted_once_its_kernels_are_measured(real, spool, profiled, tmp_path):
    path = tmp_path / "own.onnx"
    path.write_bytes(own_network())
    before = real.ask("GET", "/v1/devices/bench/table")
    asked = ask_agent(real, spool, "predict", str(path))
    assert asked.returncode in (0, 1)
    assert "measure them with: profiler-agent measure-kernels" in asked.stderr
    assert "nchwc.Conv/1x16x8x8" in asked.stderr or "Conv/1x16x8x8" in asked.stderr

    measured = ask_agent(real, spool, "measure-kernels", str(path), "--preset", "quick")
    assert measured.returncode == 0, measured.stderr
    assert f"{path}: " in measured.stdout

    (found,) = json.loads(ask_agent(real, spool, "predict", str(path), "--json").stdout)["files"]
    assert (found["missing"], found["problem"]) == ([], None)
    assert 0 < found["mean_ms"] < found["upper_ms"]
    assert real.ask("GET", "/v1/devices/bench/table")["prices"] == before["prices"]
    again = ask_agent(real, spool, "measure-kernels", str(path))
    assert "nothing was left to measure" in again.stdout


def test_a_genotype_is_predicted_by_kernels_that_the_agent_counts_on_the_spot(real, spool, profiled):
    genotype = "|nor_conv_1x1~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    by_ops = real.ask("POST", "/v1/devices/bench/predict", {"genotype": genotype, "space": "nas-bench-201"})
    assert by_ops["by"] == "ops"
    space = ("--space", "nas-bench-201")
    asked = ask_agent(real, spool, "predict", *space, "--genotype", genotype, "no genotype", "--json")
    assert asked.returncode == 1
    good, bad = json.loads(asked.stdout)["genotypes"]
    assert (good["genotype"], good["missing"], good["note"]) == (genotype, [], None)
    assert 0 < good["mean_ms"] < good["upper_ms"]
    assert good["sd_ms"] != by_ops["sd_ms"]
    assert "mean_ms" not in bad
    assert "no genotype" in bad["problem"]
    nothing = ask_agent(real, spool, "predict")
    assert nothing.returncode == 2
    assert "give an ONNX file, or --genotype" in nothing.stderr


def test_own_files_need_a_device_with_a_table(real, spool, profiled, tmp_path):
    path = tmp_path / "own.onnx"
    path.write_bytes(own_network())
    stranger = ask_agent(real, spool, "predict", str(path), "--device", "stranger")
    assert stranger.returncode == 1
    assert "unknown device 'stranger'" in stranger.stderr
    other_runtime = ask_agent(real, spool, "measure-kernels", str(path), "--threads", "2")
    assert other_runtime.returncode == 1
    assert "has no table" in other_runtime.stderr
    assert "profiler-agent profile" in other_runtime.stderr


def ask_agent(real, spool, command, *arguments):
    whole = agent(real, spool, command, *arguments)
    if command == "predict":
        del whole[whole.index("--spool") : whole.index("--spool") + 2]
    return subprocess.run(whole, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)


def own_network():
    rng = np.random.default_rng(0)
    weights = {"a": (16, 3, 3, 3), "b": (16, 16, 3, 3), "c": (5, 16)}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["x"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "b"], ["z"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["z"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "c"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, 5))],
        [numpy_helper.from_array(rng.standard_normal(shape, np.float32), name) for name, shape in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def test_networks_are_chosen_on_the_way_and_a_kill_changes_nothing(real, tmp_path):
    sizes = SIZES.replace("--calibration 12", "--calibration 30 --bound-percent 99").replace(
        "--classes 3", "--classes 4"
    )
    command = agent(real, tmp_path, "profile", "--space", "nas-bench-201", *sizes.split(), "--device", "chooser")
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "more networks" in line:  # killed with networks to measure that only the server's answer named
            break
    process.kill()
    process.communicate()
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "resuming run" in done.stderr
    assert "25 calibration networks: the bound is" in done.stderr
    (stored,) = real.ask("GET", "/v1/runs?device=chooser")["runs"]
    measurements = real.ask("GET", f"/v1/runs/{stored['run']['id']}/measurements")["measurements"]
    graphs = [(measurement["role"], measurement["graph"]) for measurement in measurements]
    assert len(set(graphs)) == len(graphs) == 2 * 12 + 25 + 6
    networks = real.ask("GET", f"/v1/tables/{stored['table']}")["networks"]
    fitted = {network["genotype"] for network in networks if network["role"] == "calibration"}
    held_out = {network["genotype"] for network in networks if network["role"] == "held_out"}
    assert (len(fitted), len(held_out), fitted & held_out) == (25, 6, set())
