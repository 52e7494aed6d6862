"""The server's routes that an agent needs. Every failure leaves this module as one of shared.errors."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import httpx

from shared.device_status import DeviceStatus
from shared.errors import (
    AccessDenied,
    Conflict,
    InvalidValue,
    LutnasError,
    NotFound,
    ServerAway,
    ServerRefused,
    WrongUse,
)
from shared.jobs import Job, JobResult, NewJob
from shared.measurements.active_selection import Choice, ChoiceRequest
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import Plan
from shared.runtime import PRECISION_HEADER, Runtime
from shared.tables.table import LatencyTable, read_table
from shared.trust import find_distrust, trust_file
from shared.wire import canonical_json, from_wire, to_wire

T = TypeVar("T")
TIMEOUT_S = 30.0
REPORT_TIMEOUT_S = 2.0
"""Nobody waits for it, and the end of a command waits for no answer."""
FINISH_TIMEOUT_S = 300.0
"""The end of a run makes the server calibrate."""
COMPRESS_ABOVE_BYTES = 10_000
PIECE_BYTES = 65_536
_AWAY_STATUS = {502, 503, 504}
"""A proxy that does not reach the server, or a server that is not ready: the same as no server."""


class ServerClient:
    """One lut-server. As a context manager it closes its connections.

    Args:
        ca_file: certificates to trust beside those of the public authorities.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = TIMEOUT_S,
        ca_file: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=timeout_s,
                transport=transport,
                verify=trust_file(httpx.create_ssl_context(), ca_file) if ca_file else True,
            )
            scheme = self._http.base_url.scheme
        except InvalidValue:
            raise
        except (httpx.InvalidURL, UnicodeEncodeError, ValueError) as error:
            raise InvalidValue("server", f"'{url}' or the token cannot be used: {error}") from error
        if scheme not in ("http", "https") or not self._http.base_url.host:
            raise InvalidValue("server", f"'{url}' is not a URL like http://host:8000")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def register_device(self, name: str, probe: dict[str, str]) -> None:
        """Make the device known."""
        self._json("POST", "/v1/devices", {"name": name, "probe": probe})

    def fetch_plan(self, space: str, calibration: int, held_out: int, seed: int) -> Plan:
        """What to measure; an older server leaves the ops alone out, which it does not know."""
        query = f"space={quote(space, safe='')}&calibration={calibration}&held_out={held_out}&seed={seed}&isolated=1"
        return self._value(Plan, "plan", "GET", f"/v1/plan?{query}")

    def fetch_graph(
        self, spec: str, batch: int, known_sha256: str | None = None, precision: str = "fp32"
    ) -> bytes | None:
        """Bytes of a graph; None if they still are those of `known_sha256`."""
        file = BytesIO()
        known = self.save_graph(spec, batch, file, known_sha256, precision) is None
        return None if known else file.getvalue()

    def save_graph(
        self, spec: str, batch: int, file: BinaryIO, known_sha256: str | None = None, precision: str = "fp32"
    ) -> str | None:
        """Write the bytes of a graph into a file as they come, so that they are never in memory as a whole.

        Returns:
            Their SHA-256; None, and nothing is written, if they still are those of `known_sha256`.
        """
        headers = {"If-None-Match": f'"{known_sha256}"'} if known_sha256 else {}
        path = f"/v1/graph?spec={quote(spec, safe='')}&batch={batch}"
        path += "" if precision == "fp32" else f"&precision={precision}"
        with self._answer("GET", path, headers) as response:
            if response.headers.get(PRECISION_HEADER, "fp32") != precision:
                raise LutnasError(f"{self.url} is an older lut-server, which has no graphs in {precision}; update it")
            if response.status_code == httpx.codes.NOT_MODIFIED:
                return None
            found = hashlib.sha256()
            for piece in response.iter_bytes(PIECE_BYTES):
                found.update(piece)
                file.write(piece)
            sha256 = response.headers.get("ETag", "").removeprefix("W/").strip('"')
        if found.hexdigest() != sha256:
            raise ServerAway(f"{self.url} sent {spec} with bytes that are not those of its ETag; try again")
        return str(sha256)

    def put_run(self, run: Run) -> None:
        """Announce a run; the same one again is no harm."""
        self._json("PUT", f"/v1/runs/{quote(run.id, safe='')}", to_wire(run))

    def fetch_run(self, run_id: str) -> Run:
        """A run as the server knows it."""
        return self._value(Run, "run", "GET", f"/v1/runs/{quote(run_id, safe='')}")

    def post_measurements(self, run_id: str, measurements: Sequence[Measurement]) -> None:
        """Hand in measurements: all are stored, or none."""
        body = {"measurements": [to_wire(one) for one in measurements]}
        self._json("POST", f"/v1/runs/{quote(run_id, safe='')}/measurements", body)

    def put_kernels(self, run_id: str, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Hand in kernel counts by graph reference; the same again is no harm."""
        try:
            self._json("PUT", f"/v1/runs/{quote(run_id, safe='')}/kernels", {"counts": counts})
        except NotFound as error:
            if error.code != "not_found":
                raise  # an older server has no such route, and makes its table without

    def fetch_measurements(self, run_id: str) -> tuple[Measurement, ...]:
        """All measurements of a run, raw values and all."""
        path = f"/v1/runs/{quote(run_id, safe='')}/measurements"
        return self._value(tuple[Measurement, ...], "measurements", "GET", path)

    def choose(self, run_id: str, request: ChoiceRequest) -> Choice:
        """Which calibration networks to measure next."""
        path = f"/v1/runs/{quote(run_id, safe='')}/next"
        return self._read(Choice, self._json("POST", path, to_wire(request), timeout_s=FINISH_TIMEOUT_S))

    def finish_run(self, run_id: str, plan: Plan, chosen: bool = False) -> dict[str, Any]:
        """End a run; answers what table it made."""
        path = f"/v1/runs/{quote(run_id, safe='')}/finish"
        body = {"plan": to_wire(plan), **({"chosen": True} if chosen else {})}
        answer = self._json("POST", path, body, timeout_s=FINISH_TIMEOUT_S)
        table = answer.get("table")
        if not isinstance(table, dict) or not isinstance(table.get("hash"), str):
            raise self._foreign("its answer to the end of a run names no table")
        return table

    def find_table(self, device: str, space: str, runtime: Runtime) -> LatencyTable | None:
        """The device's table for exactly this space and runtime."""
        query = f"space={quote(space, safe='')}&runtime={quote(str(runtime), safe='')}"
        try:
            return read_table(self._json("GET", f"/v1/devices/{quote(device, safe='')}/table?{query}"))
        except NotFound:
            return None

    def fetch_table(self, table_hash: str) -> LatencyTable:
        """A table by its hash."""
        return read_table(self._json("GET", f"/v1/tables/{quote(table_hash, safe='')}"))

    def predict(self, device: str, kernels: Mapping[str, int], space: str, runtime: str) -> dict[str, Any]:
        """What the device's table says of a network with these kernels."""
        return self._predict(device, {"kernels": dict(kernels), "space": space, "runtime": runtime})

    def predict_genotype(self, device: str, genotype: str, space: str, runtime: str) -> dict[str, Any]:
        """What the device's table says of a network of its space: by its kernels where the server has counts of it."""
        return self._predict(device, {"genotype": genotype, "space": space, "runtime": runtime})

    def _predict(self, device: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._json("POST", f"/v1/devices/{quote(device, safe='')}/predict", body)
        if not all(isinstance(answer.get(name), int | float) for name in ("mean_ms", "sd_ms", "upper_ms")):
            raise self._foreign("its prediction is none")
        return answer

    def find_missing_kernels(
        self, device: str, networks: Sequence[Sequence[str]], space: str, runtime: str
    ) -> tuple[list[str], str, str]:
        """Kernels of these networks that the device's table lacks; that table's space and canary."""
        body = {"networks": [list(network) for network in networks], "space": space, "runtime": runtime}
        answer = self._json("POST", f"/v1/devices/{quote(device, safe='')}/kernels/missing", body)
        texts = (answer.get("space"), answer.get("canary"))
        if not isinstance(answer.get("missing"), list) or not all(isinstance(text, str) for text in texts):
            raise self._foreign("its list of kernels is none")
        return [str(kernel) for kernel in answer["missing"]], str(texts[0]), str(texts[1])

    def add_job(self, job: NewJob) -> Job:
        """Queue a job."""
        return self._value(Job, "job", "POST", "/v1/jobs", to_wire(job))

    def list_jobs(self, device: str) -> tuple[Job, ...]:
        """All jobs of a device, those that are over too."""
        return self._value(tuple[Job, ...], "jobs", "GET", f"/v1/jobs?device={quote(device, safe='')}")

    def report_status(self, device: str, status: DeviceStatus) -> None:
        """Say how the device is."""
        self._json("PUT", f"/v1/devices/{quote(device, safe='')}/status", to_wire(status), timeout_s=REPORT_TIMEOUT_S)

    def lease_job(self, device: str, owner: str, lease_s: float, status: DeviceStatus | None = None) -> Job | None:
        """Take the next job of the device, if there is one, and say how the device is."""
        body = {"device": device, "owner": owner, "lease_s": lease_s, **_said(status)}
        answer = self._json("POST", "/v1/jobs/lease", body)
        return None if answer.get("job") is None else self._read(Job, answer["job"])

    def heartbeat(self, job_id: str, owner: str, lease_s: float, status: DeviceStatus | None = None) -> None:
        """Keep a job's lease. Conflict: the lease is another's, or the job is over."""
        body = {"owner": owner, "lease_s": lease_s, **_said(status)}
        self._json("POST", f"/v1/jobs/{quote(job_id, safe='')}/heartbeat", body)

    def fetch_job(self, job_id: str) -> Job:
        """A job as it stands."""
        return self._value(Job, "job", "GET", f"/v1/jobs/{quote(job_id, safe='')}")

    def post_result(self, job_id: str, owner: str, result: JobResult) -> Job:
        """Hand in what became of a job."""
        body = {"owner": owner, "result": to_wire(result)}
        return self._value(Job, "job", "POST", f"/v1/jobs/{quote(job_id, safe='')}/result", body)

    def _value(self, kind: type[T], field: str, method: str, path: str, body: Any = None) -> T:
        answer = self._json(method, path, body)
        if field not in answer:
            raise self._foreign(f"its answer to {method} {path.partition('?')[0]} has no '{field}'")
        return self._read(kind, answer[field])

    def _read(self, kind: type[T], data: Any) -> T:
        try:
            return from_wire(kind, data)
        except WrongUse as error:  # not the user's mistake
            raise self._foreign(str(error)) from error

    def _json(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> dict[str, Any]:
        headers, content = {}, None
        if body is not None:
            content = canonical_json(body)
            headers["Content-Type"] = "application/json"
            if len(content) > COMPRESS_ABOVE_BYTES:
                content, headers["Content-Encoding"] = gzip.compress(content, 6), "gzip"
        response = self._send(method, path, headers=headers, content=content, timeout_s=timeout_s)
        answer = _parse(response)
        if answer is None:
            raise self._foreign(f"{method} {path.partition('?')[0]} is answered with {_describe(response)}")
        return answer

    def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        with self._answer(method, path, headers, content, timeout_s) as response:
            response.read()
        return response

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[httpx.Response]:
        """A success whose body is yet to be read."""
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_s is None else httpx.Timeout(timeout_s)
        try:
            with self._http.stream(method, path, headers=headers, content=content, timeout=timeout) as response:
                if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
                    yield response
                    return
                response.read()
        except (httpx.HTTPError, httpx.StreamError) as error:
            distrust = find_distrust(self.url, error)
            if distrust is not None:
                raise distrust from error
            raise ServerAway(f"no answer from {self.url} ({_reason(error)}); is lut-server running there?") from error
        except (httpx.InvalidURL, httpx.CookieConflict) as error:
            raise LutnasError(f"{self.url}{path} cannot be asked for: {error}") from error
        raise self._refusal(response)

    def _refusal(self, response: httpx.Response) -> LutnasError:
        status = response.status_code
        error = (_parse(response) or {}).get("error")
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            if status in _AWAY_STATUS:
                return ServerAway(f"no lut-server behind {self.url} right now (status {status})")
            return self._foreign(f"status {status} with {_describe(response)}")
        message, code = str(error["message"]), str(error.get("code", ""))
        if status in (401, 403):
            advice = "pass --token or set LUTNAS_TOKEN to a token with the role 'agent'"
            return AccessDenied(f"{self.url} refuses ({status}): {message}; {advice}", status, code)
        if status in _AWAY_STATUS:
            return ServerAway(f"{self.url} is not ready ({status}): {message}")
        kind = {404: NotFound, 409: Conflict}.get(status, ServerRefused)
        detail = error.get("detail")
        said = detail if isinstance(detail, dict) else None
        return kind(f"{self.url} refuses ({status}): {message}", status, code, detail=said)

    def _foreign(self, problem: str) -> ServerRefused:
        return ServerRefused(f"{self.url} does not speak as a lut-server does: {problem}; check the URL", 0, "foreign")


def _said(status: DeviceStatus | None) -> dict[str, Any]:
    """The field of a body; an older server passes over it."""
    return {} if status is None else {"status": to_wire(status)}


def _parse(response: httpx.Response) -> dict[str, Any] | None:
    try:
        answer = json.loads(response.content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _describe(response: httpx.Response) -> str:
    kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
    start = " ".join(response.content[:200].decode("utf-8", "replace").split())[:60]
    return f"{kind}: {start!r}" if start else f"{kind}, empty"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
