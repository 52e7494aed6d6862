"""The table server over HTTP: tables, models, jobs. The one place where httpx's errors become `shared.errors`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from shared import __version__
from shared.errors import AccessDenied, Conflict, CorruptFile, InvalidValue, NotFound, ServerAway, ServerRefused
from shared.jobs import OVER, Job, NewJob
from shared.search_result import SearchResult
from shared.tables.table import LatencyTable, read_table
from shared.trust import find_distrust, trust_file
from shared.wire import content_hash, from_wire, to_wire

TIMEOUT_S = 30.0
POLL_S = 0.5

T = TypeVar("T")


class LutClient:
    """What a search asks of a table server.

    Args:
        url: of the server, without `/v1`.
        token: of the role `search`; only writes need one where reads are open.
        transport: of httpx; a test passes its own.
        ca_file: certificates to trust beside those of the public authorities.

    Every method raises:
        ServerAway: nothing answers.
        ServerRefused: an error in the server's one error shape (AccessDenied, NotFound, Conflict where it is one of
            those), or an answer that no table server gives (code "not_lutnas").
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
        ca_file: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise InvalidValue("lut-url", f"'{url}' does not begin with http:// or https://")
        headers = {"User-Agent": f"lutnas-search/{__version__}", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            if not httpx.URL(self.url).host:
                raise InvalidValue("lut-url", f"'{url}' names no host")
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=TIMEOUT_S,
                transport=transport,
                verify=trust_file(httpx.create_ssl_context(), ca_file) if ca_file else True,
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InvalidValue("lut-url", f"'{url}' with that token cannot be asked: {error}") from error

    def __enter__(self) -> LutClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get_table(self, device: str, space: str | None = None, runtime: str | None = None) -> LatencyTable:
        """The newest table of a device that fits.

        Args:
            device: name of the device.
            space: string form of the space; trailing parts may be left out.
            runtime: string form of the runtime; None takes any.

        Raises:
            NotFound: unknown device, or no such table; the server's message lists what exists.
            CorruptFile: the content is not what its ETag says.
            OtherSchema: the table bears another schema number.
        """
        wanted = {name: value for name, value in (("space", space), ("runtime", runtime)) if value is not None}
        response = self._request("GET", f"/v1/devices/{device}/table", params=wanted)
        data = self._object(response)
        promised = response.headers.get("ETag", "").removeprefix("W/").strip('"')
        if promised and promised != content_hash(data):
            raise CorruptFile(
                f"the table of {device} from {self.url} is not the one that its ETag names ({promised[:12]}); ask again"
            )
        return self._read(lambda: read_table(data))

    def get_kernel_counts(self, device: str, space: str, runtime: str) -> dict[str, dict[str, int]]:
        """Kernels of the networks of a space that were ever counted on the device, by genotype."""
        query = {"device": device, "space": space, "runtime": runtime}
        data = self._object(self._request("GET", "/v1/kernels", params=query))
        return self._read(lambda: from_wire(dict[str, dict[str, int]], data.get("counts"), "counts"))

    def upload_model(self, content: bytes) -> str:
        """Hand an ONNX file to the server; returns its SHA-256. The same file twice is the same file."""
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {"Content-Type": "application/octet-stream"}
        self._object(self._request("PUT", f"/v1/models/{sha256}", content=content, headers=headers))
        return sha256

    def post_search(self, result: SearchResult) -> None:
        """Post what a search found; the same twice is stored once."""
        self._object(self._request("POST", "/v1/searches", json=to_wire(result)))

    def queue_job(self, job: NewJob) -> Job:
        """Queue a job for a device."""
        return self._job(self._request("POST", "/v1/jobs", json=to_wire(job)))

    def get_job(self, job_id: str) -> Job:
        """A job as it stands now."""
        return self._job(self._request("GET", f"/v1/jobs/{job_id}"))

    def cancel_job(self, job_id: str) -> Job:
        """Take a job back, so that an agent which starts later does not do it for nobody."""
        return self._job(self._request("POST", f"/v1/jobs/{job_id}/cancel"))

    def wait_for_job(
        self,
        job_id: str,
        timeout_s: float,
        on_poll: Callable[[Job], None] = lambda job: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Job:
        """Poll until the job is over or the time is up; the state of what comes back says which.

        A server that goes away meanwhile may come back: only its absence at the end is an error.
        """
        deadline = clock() + timeout_s
        while True:
            try:
                job = self.get_job(job_id)
                on_poll(job)
                if job.state in OVER or clock() >= deadline:
                    return job
            except ServerAway:
                if clock() >= deadline:
                    raise
            sleep(min(POLL_S, max(deadline - clock(), 0.01)))

    def _job(self, response: httpx.Response) -> Job:
        data = self._object(response)
        return self._read(lambda: from_wire(Job, data.get("job")))

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.UnsupportedProtocol as error:
            raise InvalidValue("lut-url", f"'{self.url}' cannot be asked: {error}") from error
        except httpx.RequestError as error:
            distrust = find_distrust(self.url, error)
            if distrust is not None:
                raise distrust from error
            why = str(error) or type(error).__name__
            raise ServerAway(
                f"the table server at {self.url} does not answer ({why});"
                " start it with `lut-server serve` or give another --lut-url"
            ) from error
        if not response.is_success:
            raise self._refusal(response)
        return response

    def _refusal(self, response: httpx.Response) -> ServerRefused:
        try:
            error = response.json()["error"]
            code, message = str(error["code"]), str(error["message"])
        except (ValueError, KeyError, TypeError):
            return self._no_server_of_ours(f"status {response.status_code}")
        status = response.status_code
        kinds = {401: AccessDenied, 403: AccessDenied, 404: NotFound, 409: Conflict}
        if status in (401, 403):
            message += " (give a token of the role `search` with --token or LUTNAS_TOKEN)"
        return kinds.get(status, ServerRefused)(message, status, code)

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        try:
            data = response.json()
        except ValueError as error:
            raise self._no_server_of_ours("no JSON") from error
        if not isinstance(data, dict):
            raise self._no_server_of_ours("no JSON object")
        return data

    def _read(self, read: Callable[[], T]) -> T:
        """Run a reader of the answer; what does not fit is the server's fault, not the user's."""
        try:
            return read()
        except InvalidValue as error:
            raise self._no_server_of_ours(str(error)) from error

    def _no_server_of_ours(self, why: str) -> ServerRefused:
        return ServerRefused(f"what answers at {self.url} is no table server of lutnas ({why})", 502, "not_lutnas")
