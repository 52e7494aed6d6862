"""Server processes and a cheap HTTP client for the benchmarks of the server.

The client speaks HTTP/1.1 over plain sockets and sends prepared requests, so that the time goes to
the server and not to its client.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stack import StackError
from lut_server.auth import create_token
from lut_server.store.sql import Store, open_store
from shared.measurements.measurement import Measurement, Round, Run, Verdict
from shared.measurements.plan import make_plan
from shared.runtime import Runtime
from shared.spaces import make_space
from shared.wire import canonical_json

START_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 60
SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
RUNTIME = Runtime("onnxruntime", "1.31.0")


@dataclass(frozen=True)
class ServerProcess:
    """A running server and its port."""

    process: subprocess.Popen[str]
    port: int

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[ServerProcess]:
    """A process that prints `listening on http://127.0.0.1:PORT` once it serves."""
    with log.open("a") as words:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=words,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if "listening on" not in line:
            raise StackError(f"{' '.join(command[:3])} did not start; its last words are in {log}")
        yield ServerProcess(process, int(line.rstrip().rpartition(":")[2]))
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()


def serving(database_url: str, log: Path) -> Any:
    """A lut-server on a free loopback port."""
    command = ["-m", "lut_server.cli", "serve", "--host", "127.0.0.1", "--port", "0", "--database-url", database_url]
    return running(command, log)


@contextmanager
def opened(database_url: str) -> Iterator[Store]:
    """The store itself, to prepare a benchmark and to count."""
    store = open_store(database_url)
    try:
        yield store
    finally:
        store.close()


def agent_token(database_url: str) -> str:
    """A token with the rights of an agent and a search."""
    with opened(database_url) as store:
        return create_token(store.tokens, "agent", "benchmark")


def make_run(run_id: str, device: str = "bench") -> Run:
    """The run of the measurements below."""
    plan_id, canary = make_plan(SPACE, 8, 4).id, "canary:conv-v1"
    return Run(run_id, device, RUNTIME, str(SPACE), plan_id, canary, "0", "2026-01-01T00:00:00+00:00", {})


def make_measurement(number: int, offset: float = 0.0) -> Measurement:
    """A measurement of twenty raw values: five rounds, two repeats each of graph and canary."""
    genotype = SPACE.format(SPACE.fastest())
    times = [0.4 + ((number * 7919 + n * 104729) % 99991) / 99991 + offset for n in range(20)]
    rounds = tuple(Round((a, b), (c, d)) for a, b, c, d in zip(*[iter(times)] * 4, strict=True))
    return Measurement(
        f"held_out-{number}", genotype, "held_out", f"network:{SPACE}:{genotype}", None, 1, rounds, Verdict(True)
    )


def batch_body(measurements: Sequence[Measurement]) -> bytes:
    """The body of an upload, as an agent writes it."""
    return canonical_json({"measurements": list(measurements)})


def request(
    method: str, path: str, body: bytes = b"", token: str | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """A request as its bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """A kept-alive connection for a request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), REQUEST_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def ask(self, sent: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            ConnectionError: the server went away.
        """
        self._socket.sendall(sent)
        buffer = self._rest
        while b"\r\n\r\n" not in buffer:
            buffer += self._receive()
        head, _, body = buffer.partition(b"\r\n\r\n")
        length = answer_length(head)
        parts, size = [body], len(body)
        while size < length:
            parts.append(self._receive())
            size += len(parts[-1])
        body = b"".join(parts)
        self._rest = body[length:]
        return int(head[9:12]), body[:length]

    def _receive(self) -> bytes:
        received = self._socket.recv(1 << 20)
        if not received:
            raise ConnectionError("the server closed the connection")
        return received


def answer_length(head: bytes) -> int:
    """Length of an answer's body, from its head."""
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def requests_per_second(port: int, sent: bytes, seconds: float, connections: int = 8) -> float:
    """Rate of a request on several connections at once. Every answer must have the first's length.

    Raises:
        StackError: the server refuses, or answers otherwise in between.
    """
    first = Connection(port)
    first._socket.sendall(sent)
    whole = b""
    while b"\r\n\r\n" not in whole:
        whole += first._receive()
    head = whole.partition(b"\r\n\r\n")[0]
    if head[9:12] not in (b"200", b"304"):
        raise StackError(f"the server answers {head[:60]!r}")
    size = len(head) + 4 + answer_length(head)
    while len(whole) < size:
        whole += first._receive()
    first.close()
    return _drive(port, sent, size, seconds, connections)


def _drive(port: int, sent: bytes, size: int, seconds: float, connections: int) -> float:
    received_bytes, missing = 0, {}
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(sent)
            selector.register(connection, selectors.EVENT_READ, connection)
            missing[connection] = size
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            for key, _ in selector.select(1.0):
                connection = key.data
                received = len(connection.recv(1 << 20))
                received_bytes += received
                missing[connection] -= received
                if received == 0 or missing[connection] < 0:
                    raise StackError("the server answers otherwise in between")
                if missing[connection] == 0:
                    missing[connection] = size
                    connection.sendall(sent)
        elapsed_s = time.perf_counter() - started_s
        for connection in missing:
            connection.close()
    return received_bytes / size / elapsed_s  # parts of answers too: a large answer may take longer than the slice
