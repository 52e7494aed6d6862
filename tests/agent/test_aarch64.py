"""The real agent on the real aarch64 wheels of ONNX Runtime and numpy, under qemu-user, against the
real server.

Timings are nobody's; that they are marked so is part of what is tested.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("lut_server.app", reason="the server is not installed")

from shared.jobs import NewJob, Promise
from shared.measurements.graph_spec import CanaryGraph, NetworkGraph
from shared.runtime import Runtime
from shared.spaces import make_space
from shared.wire import to_wire

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
CANNOT = 77
DEVICE = "emulated-board"
SIZES = "--resolution 8 --channels 4 --cells-per-stage 1 --classes 3 --calibration 3 --held-out 2 --preset smoke"
EMULATED = re.compile(r"emulated by qemu-aarch64(-static)?: its timings mean nothing, measure on the device itself")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")  # the script works from any folder
    made = subprocess.run(
        [REPOSITORY / "scripts/aarch64-python"], cwd=elsewhere, capture_output=True, text=True, timeout=400
    )
    if made.returncode == CANNOT:
        pytest.skip(made.stderr.strip().splitlines()[-1])
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@pytest.fixture(scope="module")
def agent(python, real, tmp_path_factory):
    """Runs a command of the agent on the emulated board, in this very state of the sources."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    spool = tmp_path_factory.mktemp("spool")
    connection = ["--server", real.url, "--token", real.token, "--spool", str(spool), "--device", DEVICE]

    def run(command, *more):
        arguments = [*more] if command == "probe" else [*connection, *more]
        program = [python, "-m", "profiler_agent", command, *arguments]
        return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=400)

    run.spool = spool
    return run


@pytest.fixture(scope="module")
def profiled(agent):
    done = agent("profile", "--space", "nas-bench-201", *SIZES.split())
    assert done.returncode == 0, done.stderr
    return done


def test_the_board_is_probed_as_an_emulated_one(agent):
    done = agent("probe", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["architecture"] == "aarch64"
    assert found["emulated"].startswith("qemu-aarch64")
    pinned = re.search(r"^onnxruntime==(.*)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert found["onnxruntime"] == pinned
    assert "cpu" in found["providers"].split(", ")


def test_a_profile_becomes_a_table_that_says_what_it_is_worth(real, agent, profiled):
    assert EMULATED.search(re.search(r"^unstable +(.*)$", profiled.stdout, re.MULTILINE)[1])
    (stored,) = real.ask("GET", f"/v1/runs?device={DEVICE}")["runs"]
    assert stored["run"]["probe"]["emulated"].startswith("qemu-aarch64")
    measurements = real.ask("GET", f"/v1/runs/{stored['run']['id']}/measurements")["measurements"]
    assert len(measurements) == 2 * 12 + 3 + 2
    assert not any(measurement["verdict"]["stable"] for measurement in measurements)
    (kernels,) = agent.spool.glob("runs/*/kernels.jsonl")
    assert "Conv" in kernels.read_text()  # the optimised graphs were read too
    table = real.ask("GET", f"/v1/tables/{stored['table']}")
    assert len(table["prices"]) == 12
    assert all(EMULATED.search(price["reasons"][0]) and not price["stable"] for price in table["prices"])


def test_jobs_to_count_kernels_and_to_verify_a_network_are_done(real, agent, profiled):
    space = make_space("nas-bench-201", resolution=8, channels=4, depth=1, classes=3)
    (stored,) = real.ask("GET", f"/v1/runs?device={DEVICE}")["runs"]
    fastest = space.format(space.fastest())
    promise = Promise(stored["table"], fastest, 1.0, 1.1, 1e6)
    runtime, canary = Runtime("onnxruntime", stored["run"]["runtime"]["version"]), str(CanaryGraph())
    network = str(NetworkGraph(space, space.fastest()))
    jobs = (
        NewJob(DEVICE, "count", runtime, canary, str(space), genotypes=(fastest,)),
        NewJob(DEVICE, "verify", runtime, canary, str(space), network, promise),
    )
    queued = [real.ask("POST", "/v1/jobs", to_wire(job))["job"]["id"] for job in jobs]
    worked = agent("work", "--once", "--preset", "smoke")
    assert worked.returncode == 0, worked.stderr
    counted, verified = (real.ask("GET", f"/v1/jobs/{job_id}")["job"] for job_id in queued)
    assert (counted["state"], verified["state"]) == ("done", "done"), (counted, verified)
    assert verified["verification"]["met"] is True
    assert verified["verification"]["stable"] is False
    assert EMULATED.search(verified["verification"]["reasons"][0])
