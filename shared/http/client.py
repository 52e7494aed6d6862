"""The HTTP client of a lut-server. Every failure becomes an error of `shared.errors`."""

from __future__ import annotations

import gzip
import json
import math
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import quote

import httpx

from shared import __version__
from shared.errors import (
    AccessDenied,
    Conflict,
    CorruptFile,
    InvalidValue,
    NotFound,
    ServerAway,
    ServerRefused,
    WrongUse,
    in_one_line,
)
from shared.http.proxies import find_proxy
from shared.http.trust import find_distrust, trust_file
from shared.jobs import Job, NewJob
from shared.runtime import runtime_parts
from shared.tables.table import LatencyTable, read_table
from shared.wire import canonical_json, from_wire

T = TypeVar("T")
TIMEOUT_S = 30.0
COMPRESS_ABOVE_BYTES = 10_000
PIECE_BYTES = 65_536
MOST_BYTES = 512 << 20
"""No response of a lut-server is longer. A longer response would only fill the memory."""
LONGEST_S = 1800.0
"""Nor does any take longer."""
AWAY_STATUS = {502, 503, 504}
"""A proxy does not reach the server, or the server is not ready: the same as no server."""
_SECRETS = re.compile(r".*@|(?<=[?#]).*", re.DOTALL)
KINDS = {401: AccessDenied, 403: AccessDenied, 404: NotFound, 409: Conflict}


class HttpClient:
    """A lut-server. As a context manager it closes its connections.

    Args:
        url: without `/v1`.
        token: of the role `role`; no message contains it.
        transport: of httpx; tests pass their own.
        ca_file: certificates to trust beside those of the public authorities.
        most_bytes: the longest JSON response that the client reads.

    Every request raises:
        ServerAway: no server answers (UntrustedServer: its certificate is not trusted).
        ServerRefused: the server refuses (AccessDenied for 401 and 403, NotFound for 404, Conflict
            for 409), or the response is not that of a lut-server (code "foreign").
    """

    role: ClassVar[str]

    def __init__(
        self,
        url: str,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
        ca_file: str | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.url, self._token, self._most_bytes = url.strip().rstrip("/"), token, most_bytes
        headers = {"User-Agent": f"lutnas-{self.role}/{__version__}", "Accept-Encoding": "gzip"}
        if token:
            if not re.fullmatch(r"[\x21-\x7e]+", token):
                raise InvalidValue("token", "holds a space, or a character that no token has")
            headers["Authorization"] = f"Bearer {token}"
        base = check_url(self.url)
        proxy = None if transport else find_proxy(base.scheme, base.host)
        self._where = f"{self.url}, through the proxy {proxy[1]}," if proxy else self.url
        self._http = httpx.Client(
            base_url=base,
            headers=headers,
            transport=transport,
            verify=transport is not None or _trusted(ca_file),
            proxy=proxy[0] if proxy else None,
            trust_env=False,  # proxies and certificates of the environment are read here
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def get_table(self, device: str, space: str | None = None, runtime: str | None = None) -> LatencyTable:
        """The newest table of a device that fits.

        Args:
            space: string form; trailing parts may be left out.
            runtime: string form; None takes any.

        Raises:
            NotFound: unknown device, or no such table; the server's message lists the existing
                names.
            CorruptFile: the content does not fit its ETag.
            OtherSchema: the table has another schema number.
            ServerRefused: the table is of another device or runtime (code "foreign"). Callers
                compare its space, to say which parameter differs.
        """
        table = self._table("devices", device, "table", query={"space": space, "runtime": runtime})
        parts = {*(runtime or "").strip("/").split("/")} - {""}
        if table.device != device or not parts <= runtime_parts(str(table.runtime)):
            raise self._foreign(f"it sent a table of {table.device}, {table.runtime}")
        return table

    def get_job(self, job_id: str) -> Job:
        """The current state of a job."""
        job = self._value(Job, "job", self._ask("GET", "jobs", job_id))
        if job.id != job_id:
            raise self._foreign("it sent another job")
        return job

    def queue_job(self, job: NewJob) -> Job:
        """Queue a job for a device."""
        return self._value(Job, "job", self._ask("POST", "jobs", body=job))

    def predict(self, device: str, network: Mapping[str, Any], space: str, runtime: str) -> dict[str, Any]:
        """What the device's table says of a network.

        Args:
            network: its "kernels"; or its "genotype" or "graph", whose kernel counts the server has.
        """
        body = {**network, "space": space, "runtime": runtime}
        answer = self._ask("POST", "devices", device, "predict", body=body)
        for name in ("mean_ms", "sd_ms", "upper_ms", "confidence"):
            if not math.isfinite(self._value(float, name, answer)):
                raise self._foreign("its prediction is none")
        self._value(tuple[str, ...], "guessed", {"guessed": answer.get("guessed") or []})
        return answer

    def _ask(self, method: str, *path: str, **options: Any) -> dict[str, Any]:
        """The JSON object that answers a request. Arguments: see `_stream`."""
        with self._stream(method, *path, **options) as response:
            return self._object(response)

    @contextmanager
    def _stream(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Iterator[httpx.Response]:
        """A response with a success status or 304; the caller reads its body.

        Args:
            path: segments below `/v1`.
            query: parameters; those that are None are left out.
            body: a value for JSON, or raw bytes.
        """
        route = "/v1/" + "/".join(quote(segment, safe="") for segment in path)
        params = {name: value for name, value in (query or {}).items() if value is not None} or None
        headers, content = dict(headers or {}), body
        if body is not None and not isinstance(body, bytes):
            headers["Content-Type"], content = "application/json", canonical_json(body)
            if len(content) > COMPRESS_ABOVE_BYTES:
                headers["Content-Encoding"], content = "gzip", gzip.compress(content, 6)
        try:
            with self._http.stream(
                method, route, params=params, content=content, headers=headers, timeout=timeout_s
            ) as response:
                if not response.is_success and response.status_code != httpx.codes.NOT_MODIFIED:
                    refusal = self._refusal(response)
                    refusal.retry_after_s = find_retry_after(response)
                    raise refusal
                yield response
        except (httpx.HTTPError, httpx.StreamError) as error:
            if (distrust := find_distrust(self.url, error)) is not None:
                raise distrust from error
            why, advice = str(error) or type(error).__name__, "is lut-server running there? --lut-url names another"
            if "[SSL" in why or isinstance(error, httpx.RemoteProtocolError):
                scheme, _, host = self.url.partition(":")
                other = "http" if scheme == "https" else "https"
                advice = f"does it serve {other.upper()}? Then: --lut-url {other}:{host}"
            raise ServerAway(self._line(f"no answer from {self._where} ({why}); {advice}")) from error

    def _table(self, *path: str, **options: Any) -> LatencyTable:
        with self._stream("GET", *path, **options) as response:
            data, etag = self._object(response), find_etag(response)
        table = self._read(lambda: read_table(data))
        if self._read(lambda: table.hash) != etag and etag:
            raise CorruptFile(self._line(f"a table from {self.url} does not fit its ETag ({etag[:12]}); ask again"))
        return table

    def _value(self, kind: type[T], field: str, answer: Mapping[str, Any]) -> T:
        """A field of an answer, as a value."""
        if field not in answer:
            raise self._foreign(f"its answer has no '{field}'")
        return self._read(lambda: from_wire(kind, answer[field], field))

    def _read(self, read: Callable[[], T]) -> T:
        """Parse an answer. A mistake in it is the server's, not the user's."""
        try:
            return read()
        except WrongUse as error:
            raise self._foreign(str(error)) from error
        except (RecursionError, ValueError) as error:  # numbers beyond floats have no JSON
            raise self._foreign("its answer is nested too deeply, or holds a number that is not finite") from error

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        content = self._content(response)
        answer = _parse(content)
        if answer is None:
            raise self._foreign(f"its answer is no JSON object but {_describe(content)}")
        return answer

    def _content(self, response: httpx.Response) -> bytes:
        content = bytearray()
        for piece in self._pieces(response):
            content += piece
        return bytes(content)

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it comes, unpacked. Only gzip: what came grows a thousandfold at most."""
        encoding = response.headers.get("Content-Encoding", "gzip")
        if encoding not in ("gzip", "identity"):
            raise self._foreign(f"its answer is packed as {encoding[:60]!r}")
        size, end_s = 0, time.monotonic() + LONGEST_S
        for piece in response.iter_bytes():
            size += len(piece)
            if size > self._most_bytes or time.monotonic() > end_s:
                raise self._foreign(f"its answer is longer than {self._most_bytes} bytes or {LONGEST_S:g} s")
            yield from (piece[start : start + PIECE_BYTES] for start in range(0, len(piece), PIECE_BYTES))

    def _refusal(self, response: httpx.Response) -> ServerAway | ServerRefused:
        status, content = response.status_code, self._content(response)
        found = (_parse(content) or {}).get("error")
        error = found if isinstance(found, dict) and isinstance(found.get("message"), str) else None
        if status in AWAY_STATUS:
            why = error["message"] if error else "no lut-server is behind it right now"
            return ServerAway(self._line(f"{self._where} is not ready ({status}): {why}"))
        if error is None:
            return self._foreign(f"status {status} with {_describe(content)}")
        problem = self._line(f"{self.url} refuses ({status}): {error['message']}")
        if status in (401, 403):
            problem += f"; pass --token or set LUTNAS_TOKEN to a token with the role '{self.role}'"
        detail = error["detail"] if isinstance(error.get("detail"), dict) else None
        return KINDS.get(status, ServerRefused)(problem, status, str(error.get("code", "")), detail=detail)

    def _foreign(self, problem: str) -> ServerRefused:
        message = f"{self._where} does not speak as a lut-server does: {problem}; check the URL"
        return ServerRefused(self._line(message), 0, "foreign")

    def _line(self, message: str) -> str:
        return in_one_line(message.replace(self._token, "(the token)") if self._token else message)


def check_url(url: str) -> httpx.URL:
    """The parsed URL of a server.

    Raises:
        InvalidValue: it is invalid, or contains a user name or a password, which the message omits.
    """
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")
        extra = parsed.userinfo or parsed.query or parsed.fragment or (parsed.port or 0) > 65_535
    except (httpx.InvalidURL, ValueError):
        extra = True
    if extra or parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidValue("lut-url", f"{_SECRETS.sub('', url)!r} is no URL like http://server:8700 alone")
    return parsed


def find_retry_after(response: httpx.Response) -> int | None:
    """Seconds in `Retry-After`; None without the header, or where it holds a date."""
    text = str(response.headers.get("Retry-After", ""))
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def find_etag(response: httpx.Response) -> str:
    """The content hash in a response's ETag; empty without an ETag."""
    return str(response.headers.get("ETag", "")).removeprefix("W/").strip('"')


def _trusted(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = httpx.create_ssl_context()
    except OSError as error:  # also ssl.SSLError
        raise InvalidValue("SSL_CERT_FILE", f"cannot be used ({error.strerror or error})") from error
    return trust_file(context, ca_file) if ca_file else context


def _parse(content: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _describe(content: bytes) -> str:
    start = " ".join(content[:200].decode("utf-8", "replace").split())[:60]
    return repr(start) if start else "nothing"
