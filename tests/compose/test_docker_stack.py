"""`docker compose up` on a real engine: what README says of it, and nothing acknowledged is lost when it restarts.

Needs a Docker engine, compose (either version) and the base image; where no container registry can be reached, a
command that starts the engine and makes the base image may be named in LUTNAS_BASE_IMAGE_COMMAND.
"""

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from shared.jobs import NewJob
from shared.measurements.measurement import Measurement, Round, Run, Verdict
from shared.measurements.plan import make_plan
from shared.runtime import Runtime
from shared.spaces import make_space
from shared.wire import to_wire

ROOT = Path(__file__).parents[2]
BASE_IMAGE = "python:3.11-slim-bookworm"
POSTGRES_STAND_IN = "lutnas-test-postgres"
SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
PLAN = make_plan(SPACE, calibration=8, held_out=4)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def succeeds(*command, timeout_s=120):
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=timeout_s).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="module")
def compose():
    """The compose command of a machine that can run the stack."""
    makes_base_image = os.environ.get("LUTNAS_BASE_IMAGE_COMMAND")
    if makes_base_image:
        succeeds(*shlex.split(makes_base_image), timeout_s=600)
    if not succeeds("docker", "info"):
        pytest.skip("no Docker engine answers")
    if not (succeeds("docker", "image", "inspect", BASE_IMAGE) or succeeds("docker", "pull", "-q", BASE_IMAGE)):
        pytest.skip(f"the base image {BASE_IMAGE} is not here and cannot be pulled")
    for command in (["docker", "compose"], ["docker-compose"]):
        if succeeds(*command, "version"):
            return command
    pytest.skip("neither `docker compose` nor `docker-compose` is there")


class Stack:
    """One compose project of its own, on a free loopback port."""

    def __init__(self, compose, name, **settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.command = [*compose, "-p", name]
        self.environment = {**os.environ, "LUTNAS_PORT": str(port), "LUTNAS_BIND": "127.0.0.1", **settings}

    def call(self, *arguments):
        finished = subprocess.run(
            [*self.command, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=900
        )
        assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
        return finished.stdout

    def wait_until_ready(self):
        for _ in range(240):
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise AssertionError(self.call("logs", "--no-color", "lut-server"))

    def container(self, service="lut-server"):
        return self.call("ps", "-q", service).strip()

    def inspect(self, service="lut-server"):
        return json.loads(subprocess.check_output(["docker", "inspect", self.container(service)]))[0]

    def first_token(self):
        return re.search(r"shown this once: (lut_\S+)", self.call("logs", "--no-color", "lut-server")).group(1)

    def client(self):
        headers = {"Authorization": f"Bearer {self.first_token()}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)


@pytest.fixture
def start(compose):
    """Starts stacks; takes them down with their volumes afterwards."""
    stacks = []

    def up(name, *profiles, services=(), **settings):
        stack = Stack(compose, f"lutnas-test-{name}-{os.getpid()}", **settings)
        stacks.append((stack, profiles))
        stack.call(*profiles, "up", "-d", "--build", *services)
        stack.wait_until_ready()
        return stack

    yield up
    for stack, profiles in stacks:
        stack.call(*profiles, "down", "-v", "--remove-orphans", "-t", "15")


def register(client, run_id="run-1"):
    assert client.post("/v1/devices", json={"name": "board", "probe": {}}).status_code == 201
    runtime = Runtime("onnxruntime", "1.31.0")
    run = Run(run_id, "board", runtime, PLAN.space, PLAN.id, PLAN.canary, "0.1.0", "2026-01-01T00:00:00+00:00", {})
    assert client.put(f"/v1/runs/{run_id}", json=to_wire(run)).status_code == 201


def measurement(index):
    task = PLAN.tasks[index % len(PLAN.tasks)]
    minus = (0.25,) * 20 if task.minus else ()
    rounds = (Round((1.0 + index / 1e4,) * 20, (0.5,) * 20, minus),) * 3
    return Measurement(
        f"m-{index}", task.subject, task.role, task.graph, task.minus, task.divisor, rounds, Verdict(True)
    )


def upload(client, index):
    """Upload one measurement, again until it is acknowledged."""
    body = {"measurements": [to_wire(measurement(index))]}
    for _ in range(200):
        try:
            if client.post("/v1/runs/run-1/measurements", json=body).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"measurement {index} was never acknowledged")


def test_the_stack_comes_up_hardened_and_healthy(start):
    stack = start("hardened")
    description = stack.inspect()
    assert description["HostConfig"]["ReadonlyRootfs"] is True
    assert description["HostConfig"]["CapDrop"] == ["ALL"]
    assert description["HostConfig"]["Memory"] == 512 << 20
    assert description["Config"]["User"] == "lutnas"
    for _ in range(60):
        if stack.inspect()["State"]["Health"]["Status"] == "healthy":
            break
        time.sleep(1)
    assert stack.inspect()["State"]["Health"]["Status"] == "healthy"
    assert httpx.post(f"{stack.url}/v1/devices", json={"name": "board", "probe": {}}).status_code == 401
    with stack.client() as client:
        register(client)
    hands_out_its_own_wheel(stack.url)


def hands_out_its_own_wheel(url):
    script = httpx.get(f"{url}/agent/install.sh").text
    assert f"\nserved_from={url}\n" in script
    named = dict(re.findall(r"^(wheel|wheel_sha256)=(\S+)$", script, re.MULTILINE))
    wheel = httpx.get(f"{url}/agent/wheels/{named['wheel']}").content
    assert hashlib.sha256(wheel).hexdigest() == named["wheel_sha256"]
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = ["git", "ls-files", "--", "profiler_agent", "lut_server", "search", "shared"]
    assert packed >= set(subprocess.run(tracked, cwd=ROOT, capture_output=True, text=True).stdout.split())


def test_a_restart_in_the_middle_of_an_upload_loses_nothing_that_was_acknowledged(start):
    stack = start("restart")
    acknowledged = []
    with stack.client() as client:
        register(client)
        restart = threading.Timer(0.5, lambda: stack.call("restart", "-t", "0", "lut-server"))
        restart.start()
        for index in range(150):
            upload(client, index)
            acknowledged.append(f"m-{index}")
        restart.join()
        stack.wait_until_ready()
        stored = client.get("/v1/runs/run-1/measurements").json()["measurements"]
    assert sorted(one["id"] for one in stored) == sorted(acknowledged)
    assert stack.inspect()["RestartCount"] == 0
    # The first token is made once: the volume outlived the restart.
    assert stack.call("logs", "--no-color", "lut-server").count("shown this once") == 1


def test_the_agent_profile_measures_the_box_through_the_queue(start):
    stack = start("agent", services=("lut-server",))
    stack.environment |= {"LUTNAS_TOKEN": stack.first_token(), "LUTNAS_DEVICE": "this-box"}
    stack.call("--profile", "agent", "up", "-d", "--build")
    with stack.client() as client:
        for _ in range(120):
            if client.get("/v1/devices/this-box").status_code == 200:
                break
            time.sleep(0.5)
        version = re.search(r"^onnxruntime==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)
        job = NewJob("this-box", "profile", Runtime("onnxruntime", version), PLAN.canary, str(SPACE))
        answer = client.post("/v1/jobs", json=to_wire(job))
        assert answer.status_code == 201, answer.text
        path = f"/v1/jobs/{answer.json()['job']['id']}"
        for _ in range(600):
            if client.get(path).json()["job"]["state"] in ("done", "failed"):
                break
            time.sleep(0.5)
        assert client.get(path).json()["job"]["state"] == "done", client.get(path).text
        table = client.get("/v1/devices/this-box/table", params={"space": "nas-bench-201"}).json()
    assert table["space"] == str(SPACE)
    stack.call("--profile", "agent", "rm", "-sf", "agent")


@pytest.fixture(scope="module")
def postgres_image(compose, tmp_path_factory):
    """The official image where it can be pulled; else one of Debian's packages that takes the same settings."""
    official = "postgres:17-bookworm"
    if succeeds("docker", "image", "inspect", official) or succeeds("docker", "pull", "-q", official):
        return official
    if not succeeds("docker", "image", "inspect", POSTGRES_STAND_IN):
        if os.geteuid() or not shutil.which("debootstrap"):
            pytest.skip("no image of PostgreSQL can be pulled, and none can be made without root and debootstrap")
        make_postgres_image(tmp_path_factory.mktemp("postgres"))
    return POSTGRES_STAND_IN


ENTRYPOINT = """#!/bin/sh
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data/pg
if [ "$(id -u)" = 0 ]; then
  chown postgres /var/lib/postgresql/data
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0"
fi
if [ ! -s $data/PG_VERSION ]; then
  echo "$POSTGRES_PASSWORD" >/tmp/password
  $bin/initdb -D $data -U "$POSTGRES_USER" --pwfile=/tmp/password -E UTF8 --locale=C -A scram-sha-256 >/dev/null
  rm /tmp/password
  echo "host all all all scram-sha-256" >>$data/pg_hba.conf
  sed -i 's/^\\(local .*\\)scram-sha-256/\\1trust/' $data/pg_hba.conf
  $bin/pg_ctl -D $data -w -o "-c listen_addresses='' -k /tmp" start >/dev/null
  $bin/createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB" || true
  $bin/pg_ctl -D $data -w stop >/dev/null
fi
exec $bin/postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


def make_postgres_image(folder):
    root = folder / "root"
    packages = "--include=postgresql,util-linux"
    subprocess.run(["debootstrap", "--variant=minbase", packages, "bookworm", root], check=True, capture_output=True)
    entrypoint = root / "entrypoint"
    entrypoint.write_text(ENTRYPOINT)
    entrypoint.chmod(0o755)
    change = ["--change", 'ENTRYPOINT ["/entrypoint"]', "--change", "VOLUME /var/lib/postgresql/data"]
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "import", *change, "-", POSTGRES_STAND_IN], stdin=tar.stdout, check=True)
    assert tar.returncode == 0
    shutil.rmtree(root)


def test_the_postgres_profile_keeps_measurements_through_restarts_of_both(start, postgres_image):
    stack = start(
        "postgres",
        "--profile",
        "postgres",
        LUTNAS_POSTGRES_IMAGE=postgres_image,
        LUTNAS_POSTGRES_PASSWORD="a-secret-of-the-test",
        LUTNAS_DATABASE_URL="postgresql+psycopg://lutnas:a-secret-of-the-test@postgres/lutnas",
    )
    with stack.client() as client:
        register(client)
        restart = threading.Timer(0.3, lambda: stack.call("--profile", "postgres", "restart", "-t", "5"))
        restart.start()
        for index in range(100):
            upload(client, index)
        restart.join()
        stack.wait_until_ready()
        stored = client.get("/v1/runs/run-1/measurements").json()["measurements"]
    assert sorted(one["id"] for one in stored) == sorted(f"m-{index}" for index in range(100))
