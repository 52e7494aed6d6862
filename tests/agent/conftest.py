"""Servers for the agent: a small one that loses its temper when told to, and the real one as a
program.
"""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from shared.graphs import build_graph
from shared.jobs import Job
from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import Plan, make_plan
from shared.spaces import make_space, parse_space
from shared.wire import TABLE_SCHEMA, canonical_json, content_hash, from_wire, to_wire

TOKEN = "secret-of-the-agent"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@cache
def graph_bytes(spec: str, batch: int, precision: str = "fp32") -> bytes:
    return build_graph(parse_graph_spec(spec), batch, precision)


class Refusal(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


class ContractServer:
    """Keeps the contract of the agent's routes; `start` and `stop` make it come and go on one port.

    Attributes:
        before: called with (method, path) before a request is answered; may raise Refusal, or return bytes to
            send as they are.
        models: bytes for references that no recipe gives (uploaded models, broken ones).
    """

    def __init__(self) -> None:
        self.devices, self.runs, self.measurements, self.tables = {}, {}, {}, {}
        self.jobs, self.results, self.requests, self.models = [], {}, [], {}
        self.before: Callable[[str, str], bytes | None] = lambda method, path: None
        self.lock = threading.RLock()
        self.port = 0
        self._http = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        state = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                with state.lock:
                    length = int(self.headers.get("Content-Length") or 0)
                    body = self.rfile.read(length)
                    status, headers, content = state.handle(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *arguments) -> None: ...

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            connections: list = []  # noqa: RUF012 - one server per class

            def process_request(self, request, client_address):
                self.connections.append(request)
                super().process_request(request, client_address)

            def handle_error(self, request, client_address) -> None: ...

        self._http = Http(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._http is None:
            return
        self._http.shutdown()
        self._http.server_close()
        for connection in self._http.connections:
            try:
                connection.shutdown(2)
            except OSError:
                continue
        self._http = None

    def handle(self, method, target, headers, body):
        self.requests.append(f"{method} {target}")
        parts = urlsplit(target)
        try:
            raw = self.before(method, parts.path)
            if raw is not None:
                return 200, {"Content-Type": "text/html"}, raw
            if method != "GET" and headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refusal(401, "unauthorized", "a token is needed")
            if headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            path = [unquote(part) for part in parts.path.split("/")][2:]
            return self.route(method, path, query, headers, json.loads(body) if body else {})
        except Refusal as refusal:
            error = {"error": {"code": refusal.code, "message": str(refusal), "detail": {}}}
            return refusal.status, {"Content-Type": "application/json"}, json.dumps(error).encode()

    def route(self, method, path, query, headers, body):
        match (method, *path):
            case ("POST", "devices"):
                self.devices[body["name"]] = body["probe"]
                return ok({"device": body})
            case ("GET", "plan"):
                counts = (int(query[name]) for name in ("calibration", "held_out", "seed"))
                isolated = query.get("isolated") == "1"
                return ok({"plan": to_wire(make_plan(parse_space(query["space"]), *counts, isolated))})
            case ("GET", "graph"):
                precision = query["precision"]
                model = self.models.get(query["spec"]) or graph_bytes(query["spec"], int(query["batch"]), precision)
                etag = f'"{hashlib.sha256(model).hexdigest()}"'
                unchanged = headers.get("If-None-Match") == etag
                kind = {"Content-Type": "application/octet-stream", "ETag": etag}
                return (304, kind, b"") if unchanged else (200, kind, model)
            case ("PUT", "runs", run_id):
                run = from_wire(Run, body)
                if run.device not in self.devices:
                    raise Refusal(404, "unknown_device", f"unknown device {run.device}")
                if self.runs.setdefault(run_id, run) != run:
                    raise Refusal(409, "conflict", "the run was announced before with other content")
                return ok({"run": body, "measurements": len(self.measurements.get(run_id, {}))})
            case ("GET", "runs", run_id):
                return ok({"run": to_wire(self.runs[run_id]), "measurements": 0, "finished": True})
            case ("GET", "runs", run_id, "measurements"):
                return ok(
                    {"measurements": [to_wire(measurement) for measurement in self.measurements[run_id].values()]}
                )
            case ("POST", "runs", run_id, "measurements"):
                return self.take_measurements(run_id, [from_wire(Measurement, one) for one in body["measurements"]])
            case ("PUT", "runs", run_id, "kernels"):
                return ok({"graphs": len(body["counts"])})
            case ("POST", "runs", run_id, "finish"):
                return self.finish(run_id, from_wire(Plan, body["plan"]))
            case ("GET", "devices", device, "table"):
                table = self.tables.get((device, query["space"], query["runtime"]))
                if table is None:
                    raise Refusal(404, "no_table", f"no table for {device}")
                return ok(table)
            case ("POST", "jobs", "lease"):
                return ok({"job": self.lease(body)})
            case ("POST", "jobs", job_id, "heartbeat"):
                job = self.find_job(job_id)
                if job["lease_owner"] != body["owner"] or job["state"] != "leased":
                    raise Refusal(409, "conflict", "the lease is another's or the job is over")
                return ok({"job": job})
            case ("GET", "jobs", job_id):
                return ok({"job": self.find_job(job_id)})
            case ("POST", "jobs", job_id, "result"):
                job = self.find_job(job_id)
                if self.results.setdefault(job_id, body["result"]) != body["result"]:
                    raise Refusal(409, "conflict", "the job has another result")
                job["state"] = "failed" if body["result"]["error"] else "done"
                return ok({"job": job})
        raise Refusal(404, "not_found", f"no such route: {method} /v1/{'/'.join(path)}")

    def take_measurements(self, run_id, measurements):
        if run_id not in self.runs:
            raise Refusal(404, "unknown_run", f"unknown run {run_id}")
        stored = self.measurements.setdefault(run_id, {})
        if any(stored.get(measurement.id, measurement) != measurement for measurement in measurements):
            raise Refusal(409, "conflict", "a measurement was stored before with other content")
        new = [measurement for measurement in measurements if measurement.id not in stored]
        stored.update({measurement.id: measurement for measurement in new})
        return ok({"stored": len(new), "known": len(measurements) - len(new)})

    def finish(self, run_id, plan):
        measured = {(one.role, one.graph) for one in self.measurements.get(run_id, {}).values()}
        missing = [task for task in plan.tasks if (task.role, task.graph) not in measured]
        if missing:
            raise Refusal(422, "invalid", f"{len(missing)} of {len(plan.tasks)} tasks have no measurement")
        run = self.runs[run_id]
        table = {
            "device": run.device, "runtime": to_wire(run.runtime), "space": run.space, "canary": run.canary,
            "canary_nominal_ms": 1.0, "agent_version": run.agent_version, "base_ms": 1.0, "prices": [],
            "covariance": [[0.0]], "relative_spread": 0.0, "networks": [], "runs": [run_id], "schema": TABLE_SCHEMA,
            "held_out": None,
        }  # fmt: skip
        self.tables[run.device, run.space, str(run.runtime)] = table
        summary = {"hash": content_hash(table), "held_out": None, "space": run.space, "runtime": str(run.runtime)}
        return ok({"table": {**summary, "canary_nominal_ms": 1.0}})

    def queue(self, new_job) -> str:
        job_id = f"job-{len(self.jobs)}"
        self.jobs.append(to_wire(Job(job_id, new_job, "queued", 0, 3, "2026-01-01T00:00:00+00:00")))
        return job_id

    def lease(self, body):
        for job in self.jobs:
            if job["state"] == "queued" and job["job"]["device"] == body["device"]:
                job.update(state="leased", lease_owner=body["owner"], attempts=job["attempts"] + 1)
                return job
        return None

    def find_job(self, job_id):
        for job in self.jobs:
            if job["id"] == job_id:
                return job
        raise Refusal(404, "unknown_job", f"unknown job {job_id}")


def ok(value):
    return 200, {"Content-Type": "application/json"}, canonical_json(value)


@pytest.fixture
def server():
    contract_server = ContractServer()
    contract_server.start()
    yield contract_server
    contract_server.stop()


@pytest.fixture
def small_space():
    return make_space("nas-bench-201", resolution=8, channels=4, depth=1, classes=3)


@pytest.fixture
def agent(server, tmp_path):
    """What the command line needs, for a plan that takes about a second to measure."""
    sizes = "--resolution 8 --channels 4 --cells-per-stage 1 --classes 3 --calibration 3 --held-out 2 --preset quick"
    folder = tmp_path / "spool"
    connection = ["--server", server.url, "--token", TOKEN, "--spool", str(folder)]
    profile = ["profile", *connection, "--device", "bench", "--space", "nas-bench-201", *sizes.split()]
    return SimpleNamespace(connection=connection, profile=profile, spool=folder, tasks=29, Refusal=Refusal)


class RealServer:
    """A lut-server with a database of its own."""

    def __init__(self, folder):
        database = f"sqlite:///{folder / 'lut.db'}"
        token = [sys.executable, "-m", "lut_server.cli", "token", "create", "--database-url", database]
        made = subprocess.run(
            [*token, "--role", "admin", "--name", "test"], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr
        self.token = made.stdout.split()[-1]
        serve = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", database]
        self.process = subprocess.Popen(
            serve, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline()
        self.url = re.search(r"http://\S+", line).group(0)

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    server = RealServer(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()
