"""HTTP connections that cannot take all that the server has: silent, slow and too many ones."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from lut_server.http.container_memory import most_bytes
from lut_server.http.error_handlers import error_answer

SPARE_CONNECTIONS = 10
"""Beyond the limit, for whoever asks whether the server runs."""
_OTHER_FILES = 200
"""SQLite has three for each of its connections."""
LONGEST_STANDSTILL_S = 60.0
MOST_UNREAD_BYTES = 64 << 20


class TlsListener(socket.socket):
    """A listening socket that counts connections from the first: one whose TLS handshake does not
    come has not reached the protocol, and takes a file all the same.

    Attributes:
        established: the protocol's connections.
    """

    def __init__(self, family: int, kind: int, number: int, max_connections: int, max_head_s: float) -> None:
        super().__init__(family, kind, number)
        self.established: set[Any] = set()
        self._handshakes: dict[int, socket.socket] = {}
        self._max_connections, self._max_head_s = max_connections, max_head_s

    def accept(self) -> tuple[socket.socket, Any]:
        taken, address = super().accept()
        self._handshakes = {number: each for number, each in self._handshakes.items() if each.fileno() == number}
        self._handshakes[taken.fileno()] = taken
        if len(self._handshakes) + len(self.established) > self._max_connections + SPARE_CONNECTIONS:
            self._give_up(next(iter(self._handshakes.values())))
        asyncio.get_running_loop().call_later(self._max_head_s, self._give_up, taken)
        return taken, address

    def establish(self, number: int) -> None:
        """The handshake of the connection with this file is over."""
        self._handshakes.pop(number, None)

    def _give_up(self, taken: socket.socket) -> None:
        if self._handshakes.get(taken.fileno()) is taken:
            with suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with limits.

    A request's head has `max_head_s` to arrive, from its first byte or the connection's begin. An
    answer that nobody reads ends after a minute, or where too much is unread in all, the oldest
    first. Beyond `max_connections` the oldest connection without a request gives way; where each
    has one, only `/healthz` is answered.
    """

    def __init__(
        self, *arguments: Any, max_connections: int, max_head_s: float, listener: TlsListener | None = None, **more: Any
    ) -> None:
        super().__init__(*arguments, **more)
        self._listener = listener
        self._max_connections = max_connections
        self._max_head_s = max_head_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._standstill_timer: asyncio.TimerHandle | None = None
        self._made_s = self._paused_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._made_s = self.loop.time()
        if self._listener is not None:
            self._listener.establish(transport.get_extra_info("socket").fileno())
        self._head_timer = self.loop.call_later(self._max_head_s, transport.abort)
        if len(self.connections) > self._max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def _watch_head(self) -> None:
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(self._max_head_s, self.transport.abort)
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._standstill_timer = self.loop.call_later(LONGEST_STANDSTILL_S, self.transport.abort)
        self._paused_s = self.loop.time()
        others = [each for each in self._others() if each.flow.write_paused]
        unread = sum(each.transport.get_write_buffer_size() for each in (self, *others))
        for each in sorted(others, key=lambda other: other._paused_s):
            if unread > most_bytes(MOST_UNREAD_BYTES, 16):
                unread -= each.transport.get_write_buffer_size()
                each.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._standstill_timer is not None:
            self._standstill_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head_timer, self._standstill_timer):
            if timer is not None:
                timer.cancel()

    def _others(self) -> list[BoundedProtocol]:
        return [each for each in self.connections if isinstance(each, BoundedProtocol) and each is not self]

    def _make_room(self) -> None:
        others = self._others()
        idle = [each for each in others if each.cycle is None or each.cycle.response_complete]
        if idle:
            oldest = min(idle, key=lambda each: each._made_s)
            self.connections.discard(oldest)
            oldest.transport.abort()
        elif len(others) >= self._max_connections + SPARE_CONNECTIONS:
            self.transport.abort()
        else:
            self.app = _only_health(self.app)


def _only_health(app: Any) -> ASGIApp:
    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/healthz"):
            await app(scope, receive, send)
            return
        headers = {"Retry-After": "5", "Connection": "close"}
        full = "the server has as many connections as it can (setting max_connections); try again"
        await error_answer(503, "unavailable", full, headers=headers)(scope, receive, send)

    return respond


def allow_files(connections: int) -> int:
    """Raise this process's limit of open files for so many connections; returns how many it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_CONNECTIONS + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - SPARE_CONNECTIONS - _OTHER_FILES)
