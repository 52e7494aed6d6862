"""What an agent says of its device, when it looks, and to whom it says it."""

import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import httpx
import pytest

from lut_server.auth import create_token
from lut_server.cli import main as lut_server
from lut_server.store.sql import open_store
from profiler_agent.cli import main
from profiler_agent.host.machine import Machine
from profiler_agent.profile.status_report import LOOK_EVERY_S, StatusBoard, reporting
from profiler_agent.progress import Progress
from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.stopping import PRESETS
from profiler_agent.worker import Worker
from shared.device_status import CampaignProgress, DeviceStatus

TOKEN = "secret-of-the-agent"


class Board:
    """A made-up machine and a clock that the test turns."""

    def __init__(self, tmp_path):
        self.now_s = 0.0
        self.asked = []
        self.zone = tmp_path / "sys/class/thermal/thermal_zone0/temp"
        self.zone.parent.mkdir(parents=True)
        self.zone.write_text("61000\n")
        self.flags = "throttled=0x4\n"
        machine = Machine(tmp_path, self.run)
        self.board = StatusBoard(machine, lambda: self.now_s)

    def run(self, command):
        self.asked.append(command[0])
        return self.flags


@pytest.fixture
def bench(tmp_path):
    return Board(tmp_path)


def subjects(done, of):
    return [SimpleNamespace(done=index < done) for index in range(of)]


def runs(*ids):
    return [SimpleNamespace(id=id_, space="darts/r32") for id_ in ids]


def test_machine_is_looked_at_when_it_is_due_and_remembered_in_between(bench):
    assert bench.board.status == DeviceStatus()
    bench.board.sample()
    assert bench.board.status == DeviceStatus(61.0, ("throttled",))
    bench.zone.write_text("40000\n")
    bench.flags = "throttled=0x0\n"
    bench.now_s = LOOK_EVERY_S - 0.1
    bench.board.sample()
    assert bench.board.status.temperature_c == 61.0
    assert bench.asked == ["vcgencmd"]
    bench.now_s = LOOK_EVERY_S
    bench.board.sample()
    assert bench.board.status == DeviceStatus(40.0, ())


def test_machine_that_tells_nothing_is_unknown_and_not_cool(bench):
    bench.zone.unlink()
    bench.flags = None
    bench.board.sample()
    assert bench.board.status == DeviceStatus(None, None)


def test_campaign_counts_what_was_measured_before_and_ends_with_it(bench):
    bench.board.note_progress(runs("a", "b"), 10, subjects(3, 20))
    assert bench.board.status.campaign == CampaignProgress(("a", "b"), ("darts/r32", "darts/r32"), 13, 30)
    bench.board.note_progress(runs("a", "b"), 10, subjects(9, 20))
    assert bench.board.status.campaign.measured == 13  # not due
    bench.now_s = LOOK_EVERY_S
    bench.board.note_progress(runs("a", "b"), 10, subjects(9, 20))
    assert bench.board.status.campaign.measured == 19
    bench.board.clear_progress()
    assert bench.board.status.campaign is None
    bench.board.note_progress(runs("c"), 0, subjects(0, 2))
    assert bench.board.status.campaign.runs == ("c",)


class Listener:
    def __init__(self, failure=None):
        self.heard = []
        self.failure = failure
        self.came = threading.Event()

    def report_status(self, device, status):
        self.heard.append((device, status))
        self.came.set()
        if self.failure is not None:
            raise self.failure


def test_server_hears_of_it_while_the_inside_runs_and_no_longer(bench):
    listener = Listener()
    with reporting(listener, "pi", bench.board, every_s=0.01):
        assert listener.came.wait(5)
    heard = len(listener.heard)
    time.sleep(0.05)
    assert len(listener.heard) == heard
    assert listener.heard[0] == ("pi", DeviceStatus(61.0, ("throttled",)))


def test_server_that_is_away_disturbs_nobody(bench, server, agent):
    asked = []

    def refuse(method, path):
        asked.append(path)
        raise agent.Refusal(503, "unavailable", "no")

    server.before = refuse
    with ServerClient(server.url, TOKEN) as client, reporting(client, "pi", bench.board, every_s=0.01):
        deadline = time.monotonic() + 5
        while len(asked) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert set(asked) == {"/v1/devices/pi/status"}
    assert len(asked) >= 3


def test_questions_for_work_and_heartbeats_carry_the_status(server, agent):
    bodies = []
    route = server.route
    server.route = lambda method, path, query, headers, body: (
        bodies.append((path, body)) or route(method, path, query, headers, body)
    )
    assert main(["work", *agent.connection, "--device", "bench", "--once"]) == 0
    (lease,) = [body for path, body in bodies if path == ["jobs", "lease"]]
    assert set(lease["status"]) == {"temperature_c", "throttling", "campaign", "check"}
    assert lease["status"]["campaign"] is None


@pytest.fixture
def real(tmp_path):
    """URL, token and database of a real server."""
    database = f"sqlite:///{tmp_path}/lut.db"
    store = open_store(database)
    token = create_token(store.tokens, "search")
    agents = create_token(store.tokens, "agent")
    store.close()
    command = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            yield SimpleNamespace(url=url, token=token, agents=agents, database=database)
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_fleet_shows_how_far_a_real_agent_is_with_the_job_that_one_command_asked_for(real, tmp_path, capsys):
    with ServerClient(real.url, real.agents) as client, httpx.Client(base_url=real.url) as http:
        client.register_device("bench", {})
        ask = ["profile", "--all-missing", "--space", "nas-bench-201/r8/c4/n1/k3/i3", "--json"]
        assert lut_server([*ask, "--database-url", real.database], environment={}) == 0
        (asked,) = json.loads(capsys.readouterr().out)["asked"]
        assert (asked["device"], asked["outcome"], asked["alive"]) == ("bench", "queued", True)
        worker = Worker(client, Spool(tmp_path / "spool"), Progress([].append), "bench", PRESETS["quick"], lease_s=4.5)
        thread = threading.Thread(target=worker.run, kwargs={"once": True})
        thread.start()
        doing, deadline = {"tasks": None}, time.monotonic() + 60
        while doing["tasks"] is None and time.monotonic() < deadline:
            time.sleep(0.1)
            doing = http.get("/?format=json").json()["devices"][0]["activity"]
        http.post(f"/v1/jobs/{asked['job']}/cancel", headers={"Authorization": f"Bearer {real.token}"})
        thread.join(timeout=60)
        assert not thread.is_alive()
        assert (doing["job"], doing["attempt"]) == (asked["job"], 1)
        assert 0 <= doing["measured"] < doing["tasks"]
        assert doing["says"].endswith(f"attempt 1 of 3: {doing['measured']} of {doing['tasks']} measured")
        client.lease_job("bench", "somebody", 1.0, worker.board.status)
        assert http.get("/?format=json").json()["devices"][0]["activity"]["says"] != doing["says"]
