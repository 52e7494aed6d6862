"""The routes of the server that only an agent needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO

from shared.device_status import DeviceStatus
from shared.errors import NotFound, ServerAway
from shared.http.client import HttpClient, find_etag
from shared.jobs import Job, JobResult
from shared.measurements.active_selection import Choice, ChoiceRequest
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import Plan
from shared.runtime import Runtime
from shared.tables.table import LatencyTable
from shared.wire import from_wire

REPORT_TIMEOUT_S = 2.0
"""Nobody waits for a status report."""
FINISH_TIMEOUT_S = 300.0
"""At the end of a run the server calibrates."""


class ServerClient(HttpClient):
    """What an agent asks of a lut-server. Errors are those of `HttpClient`."""

    role = "agent"

    def register_device(self, name: str, probe: dict[str, str]) -> None:
        self._ask("POST", "devices", body={"name": name, "probe": probe})

    def fetch_plan(self, space: str, calibration: int, held_out: int, seed: int) -> Plan:
        query = {"space": space, "calibration": calibration, "held_out": held_out, "seed": seed, "isolated": 1}
        plan = self._value(Plan, "plan", self._ask("GET", "plan", query=query))
        if plan.space != space:
            raise self._foreign(f"it sent a plan of {plan.space}")
        return plan

    def fetch_graph(self, spec: str, batch: int, precision: str = "fp32") -> bytes:
        file = BytesIO()
        self.save_graph(spec, batch, file, precision=precision)
        return file.getvalue()

    def save_graph(
        self, spec: str, batch: int, file: BinaryIO, known_sha256: str | None = None, precision: str = "fp32"
    ) -> str | None:
        """Write the bytes of a graph into a file as they come, never all of them in memory.

        Returns:
            Their SHA-256. None if it still is `known_sha256`: then nothing is written.
        """
        headers = {"If-None-Match": f'"{known_sha256}"'} if known_sha256 else {}
        query = {"spec": spec, "batch": batch, "precision": precision}
        found = hashlib.sha256()
        with self._stream("GET", "graph", query=query, headers=headers) as response:
            if response.status_code == 304:
                return None
            for piece in self._pieces(response):
                found.update(piece)
                file.write(piece)
        if found.hexdigest() != find_etag(response):
            raise ServerAway(f"{self.url} sent {spec} with bytes that are not those of its ETag; try again")
        return found.hexdigest()

    def put_run(self, run: Run) -> int:
        """Announce a run; returns how many of its measurements are there. Repeating it does no harm."""
        return self._value(int, "measurements", self._ask("PUT", "runs", run.id, body=run))

    def fetch_run(self, run_id: str) -> Run:
        """A run as the server knows it."""
        run = self._value(Run, "run", self._ask("GET", "runs", run_id))
        if run.id != run_id:
            raise self._foreign(f"it sent the run {run.id}")
        return run

    def post_measurements(
        self,
        run_id: str,
        measurements: Iterable[Mapping[str, Any]],
        batch: int,
        repeat: Callable[[Callable[[], object]], object],
        acknowledge: Callable[[list[str]], None],
    ) -> int:
        """Hand in measurements in wire form as they come; returns their number.

        Args:
            batch: measurements of a request. The server stores all of them or none.
            repeat: does a request, again if the server is away.
            acknowledge: takes the ids that the server has.
        """
        waiting, sent = iter(measurements), 0
        while part := list(islice(waiting, batch)):
            body = {"measurements": part}
            repeat(lambda body=body: self._ask("POST", "runs", run_id, "measurements", body=body))  # type: ignore[misc]
            acknowledge([measurement["id"] for measurement in part])
            sent += len(part)
        return sent

    def put_kernels(self, run_id: str, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Hand in kernel counts by graph reference; the same again is no harm."""
        self._ask("PUT", "runs", run_id, "kernels", body={"counts": counts})

    def fetch_measurements(self, run_id: str) -> tuple[Measurement, ...]:
        """All measurements of a run, raw values and all."""
        answer = self._ask("GET", "runs", run_id, "measurements")
        return self._value(tuple[Measurement, ...], "measurements", answer)

    def choose(self, run_id: str, request: ChoiceRequest) -> Choice:
        """Which calibration networks to measure next."""
        answer = self._ask("POST", "runs", run_id, "next", body=request, timeout_s=FINISH_TIMEOUT_S)
        return self._read(lambda: from_wire(Choice, answer))

    def finish_run(self, run_id: str, plan: Plan, chosen: bool = False) -> dict[str, Any]:
        """End a run; answers what table it made."""
        body = {"plan": plan, "chosen": chosen}
        table = self._ask("POST", "runs", run_id, "finish", body=body, timeout_s=FINISH_TIMEOUT_S).get("table")
        if not isinstance(table, dict) or not isinstance(table.get("hash"), str):
            raise self._foreign("its answer to the end of a run names no table")
        return {name: value for name, value in table.items() if isinstance(value, str | int | float)}

    def find_table(self, device: str, space: str, runtime: Runtime) -> LatencyTable | None:
        """The device's table for exactly this space and runtime."""
        try:
            table = self.get_table(device, space, str(runtime))
        except NotFound:
            return None
        if table.space != space:
            raise self._foreign(f"it sent a table of {table.space}")
        return table

    def fetch_table(self, table_hash: str) -> LatencyTable:
        """A table by its hash."""
        table = self._table("tables", table_hash)
        if table.hash != table_hash:
            raise self._foreign(f"it sent the table {table.hash[:12]}")
        return table

    def find_missing_kernels(
        self, device: str, networks: Sequence[Sequence[str]], space: str, runtime: str
    ) -> tuple[tuple[str, ...], str, str]:
        """Kernels of these networks that the device's table lacks; that table's space and canary."""
        body = {"networks": networks, "space": space, "runtime": runtime}
        answer = self._ask("POST", "devices", device, "kernels", "missing", body=body)
        missing = self._value(tuple[str, ...], "missing", answer)
        return missing, self._value(str, "space", answer), self._value(str, "canary", answer)

    def list_jobs(self, device: str, state: str) -> tuple[Job, ...]:
        """The jobs of a device in a state, the oldest first; not all of very many."""
        return self._value(tuple[Job, ...], "jobs", self._ask("GET", "jobs", query={"device": device, "state": state}))

    def report_status(self, device: str, status: DeviceStatus) -> None:
        """Say how the device is."""
        self._ask("PUT", "devices", device, "status", body=status, timeout_s=REPORT_TIMEOUT_S)

    def lease_job(self, device: str, owner: str, lease_s: float, status: DeviceStatus) -> Job | None:
        """Take the next job of the device, if there is one, and say how the device is."""
        body = {"device": device, "owner": owner, "lease_s": lease_s, "status": status}
        job = self._value(Job | None, "job", self._ask("POST", "jobs", "lease", body=body))  # type: ignore[arg-type]
        if job is not None and job.job.device != device:
            raise self._foreign(f"it sent a job of {job.job.device}")
        return job

    def heartbeat(self, job_id: str, owner: str, lease_s: float, status: DeviceStatus) -> None:
        """Keep a job's lease. Conflict: the lease is another's, or the job is over."""
        body = {"owner": owner, "lease_s": lease_s, "status": status}
        self._ask("POST", "jobs", job_id, "heartbeat", body=body)

    def post_result(self, job_id: str, owner: str, result: JobResult) -> Job:
        """Hand in what became of a job."""
        body = {"owner": owner, "result": result}
        return self._value(Job, "job", self._ask("POST", "jobs", job_id, "result", body=body))
