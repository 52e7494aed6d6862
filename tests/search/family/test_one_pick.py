"""Every command names the same network for a budget: with the server there, with it away, and without an agent."""

import json
import random
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from search.cli import main
from search.family.family import build_unseen_family
from search.process.progress import SilentProgress
from search.runs.run_directory import DeviceRun, write_table
from shared.jobs import Job, NewJob, Verification
from shared.tables.kernel_prices import FamilyCost, KernelPrice, KernelPrices
from shared.wire import from_wire, to_wire

ADD = "Add/1x4x8x8/1x4x8x8"
STEP_MS = 0.001
BASE_MS = 0.1
KERNELS = KernelPrices(
    BASE_MS,
    (FamilyCost("Add", STEP_MS, 0.0, 0.0),),
    (KernelPrice(ADD, STEP_MS),),
    (1e-9,) * 5,
    ((0.0,),) * 5,
    0.001,
    0.5,
)
DEVICE = "elsewhere"


class Device(BaseHTTPRequestHandler):
    """A table server with a device behind it, whose kernels take 0.7 to 1.3 times what ops foretell."""

    def log_message(self, *_):
        pass

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"model": {"sha256": self.path.rpartition("/")[2], "bytes": 1}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "null")
        if self.path == "/v1/searches":
            self._answer({"created_at": "2026-01-31T12:00:00Z", "result": body}, 201)
            return
        if self.path == "/v1/jobs":
            self.server.job = from_wire(NewJob, body)
            if self.server.job.kind == "verify":
                self.server.promised.append(self.server.job.promise.genotype)
        self._answer({"job": to_wire(Job("job-1", self.server.job, "queued", 0, 3, "2026-01-31T12:00:00Z"))})

    def do_GET(self):
        if self.path.startswith("/v1/kernels"):
            self._answer({"counts": self.server.known})
            return
        job, found, state = self.server.job, None, "done"
        if job.kind == "verify":
            ms = job.promise.predicted_ms
            found = Verification(ms, ms, ms, ms, 1.0, True, True, ())
        elif self.server.agent:
            self.server.known |= {name: self.server.count(name) for name in job.genotypes}
        else:
            state = "queued"
        self._answer({"job": to_wire(Job("job-1", job, state, 1, 3, "2026-01-31T12:00:00Z", verification=found))})

    def _answer(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def priced(run):
    """The run as a device sees it whose table has kernel prices."""
    view = DeviceRun(run, replace(run.table, device=DEVICE, kernels=KERNELS))
    write_table(run.path, view.table)
    build_unseen_family(view, SilentProgress())
    return view


@pytest.fixture
def server(priced):
    def count(name):
        by_ops_ms = priced.table.predict(priced.space.parse(name)).mean_ms
        kernels_ms = random.Random(name).uniform(0.7, 1.3) * by_ops_ms - BASE_MS
        return {ADD: max(1, round(kernels_ms / STEP_MS))}

    with ThreadingHTTPServer(("127.0.0.1", 0), Device) as server:
        server.known, server.agent, server.count, server.promised = {}, True, count, []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.options = ["--lut-url", f"http://127.0.0.1:{server.server_port}"]
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(priced, tmp_path, capfd):
    """Which network a command names for a budget, and what it says on stderr."""

    def ask(command, budget_ms, *options):
        out = tmp_path / "member.onnx"
        more = {
            "pick": ["--json"],
            "export": ["--tune-epochs", "0", "--out", str(out)],
            "train": ["--epochs", "1", "--batch-size", "512"],
            "verify": ["--json"],
            "ladder": ["--tune-epochs", "0"],
        }[command]
        asked = [command, "--run", str(priced.path), "--device", DEVICE, "--max-latency-ms", str(budget_ms)]
        assert main([*asked, *more, *options]) == 0
        said = capfd.readouterr()
        if command == "pick":
            return json.loads(said.out)["best"]["genotype"], said.err
        if command == "export":
            return said.out.splitlines()[0].removeprefix(f"{out}: "), said.err
        if command == "train":
            return said.out.partition(" on ")[0], said.err
        if command == "verify":
            return json.loads(said.out)["promise"]["genotype"], said.err
        (rung,) = json.loads((priced.folder / "ladder.json").read_bytes())
        return rung["attempts"][0]["genotype"], said.err

    return ask


def budgets(priced, count=4):
    bounds_ms = [member["upper_ms"] for member in json.loads(priced.family_path.read_bytes())["members"]]
    return [1.005 * bounds_ms[place * (len(bounds_ms) - 1) // count] for place in range(1, count)]


def test_every_command_takes_the_pick_with_the_server_there_and_away(priced, server, ask, capfd):
    budget_ms = budgets(priced)[1]
    by_ops, said = ask("pick", budget_ms, "--lut-url", "http://127.0.0.1:9")
    (line,) = [line for line in said.splitlines() if "kernels of" in line]
    assert "no answer from http://127.0.0.1:9" in line
    named = {command: ask(command, budget_ms, *server.options)[0] for command in ("pick", "export", "train")}
    named |= {command: ask(command, budget_ms, *server.options)[0] for command in ("verify", "ladder")}
    assert len(set(named.values())) == 1, named
    assert set(server.promised) == set(named.values())
    away = {command: ask(command, budget_ms) for command in ("pick", "export", "train")}
    assert {genotype for genotype, _ in away.values()} == set(named.values())
    assert not any("unknown" in said for _, said in away.values()), "all that was asked for is kept"
    assert by_ops


def test_kernels_decide_and_export_follows_at_every_budget(priced, server, ask):
    by_ops = [ask("pick", budget_ms, "--lut-url", "http://127.0.0.1:9")[0] for budget_ms in budgets(priced)]
    picked = [ask("pick", budget_ms, *server.options)[0] for budget_ms in budgets(priced)]
    assert [ask("export", budget_ms, *server.options)[0] for budget_ms in budgets(priced)] == picked
    assert picked != by_ops


def test_a_budget_that_only_kernels_meet_is_met_by_every_command(priced, server, ask):
    smallest_ms = json.loads(priced.family_path.read_bytes())["budgets_ms"][0]
    server.count = lambda name: {ADD: round((0.9 * smallest_ms - BASE_MS) / STEP_MS)}
    picked, _ = ask("pick", 0.95 * smallest_ms, *server.options)
    assert ask("export", 0.95 * smallest_ms)[0] == picked
    assert ask("verify", 0.95 * smallest_ms, *server.options)[0] == picked


def test_without_an_agent_all_say_so_in_one_line_and_agree(priced, server, ask, monkeypatch):
    monkeypatch.setattr("search.device.kernel_counts.ANSWER_S", 0.3)
    server.agent = False
    server.known = {
        member["genotype"]: server.count(member["genotype"])
        for member in json.loads(priced.family_path.read_bytes())["candidates"]
    }
    server.known.popitem()
    budget_ms = budgets(priced)[2]
    found = {command: ask(command, budget_ms, *server.options) for command in ("pick", "export", "train", "verify")}
    assert len({genotype for genotype, _ in found.values()}) == 1
    for _, said in found.values():
        (line,) = [line for line in said.splitlines() if "kernels of" in line]
        assert f"no agent of {DEVICE} answered within" in line
