"""Around every request: an id, a duration, security headers, one log line, and an audit entry where
it writes.

Plain ASGI: Starlette's own base class for middleware runs each request in a task of its own and
takes half of the throughput of a small GET.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lut_server.clock import Clock, stamp, utc_now
from lut_server.http.metrics import NO_ROUTE, Metrics
from shared.errors import LutnasError

LOGGER = logging.getLogger("lut_server.requests")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_READS = ("GET", "HEAD", "OPTIONS")

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""For every answer that does not set them itself."""


class Watch:
    """ASGI middleware. It is the outermost, so that errors pass through it too.

    Args:
        secure: whether answers go out over TLS.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, audit: AuditLog, secure: bool = False, log_format: str = "text"
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._audit = audit
        self._json = log_format == "json"
        transport = ((b"strict-transport-security", b"max-age=31536000"),) if secure else ()
        self._headers = (*HEADERS, *transport)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                extra = [header for header in self._headers if header[0] not in given]
                message["headers"] = [*message["headers"], *extra, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._note(scope, status, time.perf_counter() - started_s, request_id)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        # As it came: a decoded path may hold line breaks and escape sequences.
        method, path = str(scope["method"]), scope["raw_path"].decode("latin-1")
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        # Anybody may send any word as a method.
        known = route != NO_ROUTE and status != 405
        self._metrics.count_request(method if known else "other", route, status, seconds)
        state: MutableMapping[str, Any] = scope["state"]
        client = scope["client"][0] if scope.get("client") else "unknown"
        about: dict[str, Any] = state.get("audit", {})
        writes = method not in _READS and (state.get("token") is not None or bool(about))
        logs = LOGGER.isEnabledFor(logging.INFO)
        if logs and not self._json:
            milliseconds = round(1000 * seconds, 1)
            LOGGER.info("%s %s %s %d %s ms [%s]", client, method, path[:300], status, milliseconds, request_id)
        if not writes and not (logs and self._json):
            return
        entry = {
            "request": request_id,
            "client": client,
            "token": state.get("token"),
            "method": method,
            "path": path[:300],
            "status": status,
            **about,
        }
        if logs and self._json:
            LOGGER.info(json.dumps({**entry, "duration_ms": round(1000 * seconds, 1)}))
        if writes:
            self._audit.write(entry)


def _request_id(scope: Scope) -> str:
    """The caller's own id where it is harmless: it follows a request through services."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return os.urandom(16).hex()


class AuditLog:
    """Appends lines to a file, or to stderr. A line is one write, so several processes can share
    the file.

    Args:
        path: empty for stderr.

    Raises:
        LutnasError: the file cannot be opened for appending.
    """

    def __init__(self, path: str = "", clock: Clock = utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._descriptor = None if not path else _open(Path(path))

    def write(self, entry: dict[str, Any]) -> None:
        """Append an entry with the time of day."""
        line = json.dumps({"at": stamp(self._clock()), "event": "write", **entry}, ensure_ascii=True) + "\n"
        if self._descriptor is None:
            with self._lock:
                sys.stderr.write(line)
        else:
            os.write(self._descriptor, line.encode())

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LutnasError(
            f"cannot write the audit log {path}: {error.strerror}; set audit_log to another path"
        ) from error
