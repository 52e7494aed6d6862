"""Strangers at a server, beside 50 agents at work: silent connections, dear requests, wrong tokens.

The strangers are a process of their own (`python -m benchmarks.server.hostile PORT SECONDS ID`).
They hold 200 connections that say nothing, keep 50 requests under way that take the server's memory
or time, and send 100 wrong tokens a second, half of them for a token that there is. None of that
needs a token. Health is asked for twice a second, each time on a connection of its own, from a
thread beside the agents: the strangers' own process is too busy to tell how long it waits.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.report import Figure
from benchmarks.server.fleet import simulate
from benchmarks.server.process import ServerProcess
from lut_server.auth import create_token
from lut_server.store.sql import Store

AGENTS, MEASURES_S = 50, (1.5, 3.0)
SECONDS = 60.0
SILENT, DEAR, WRONG = 200, 50, 100
MIB = 1 << 20


def run(progress: Callable[[str], None]) -> dict[str, Figure]:
    """Figures `hostile.*`; takes about 80 s."""
    with tempfile.TemporaryDirectory() as name:
        progress(f"{AGENTS} agents for {SECONDS:g} s beside strangers")
        return measure(Path(name))


def measure(folder: Path, seconds: float = SECONDS) -> dict[str, Figure]:
    """The figures of a server with its database in the folder."""
    found: dict[str, Any] = {}

    @contextmanager
    def strangers(store: Store, server: ServerProcess) -> Iterator[None]:
        known = create_token(store.tokens, "read").split("_")[1]
        command = [sys.executable, "-m", "benchmarks.server.hostile", str(server.port), str(seconds), known]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, ThreadPoolExecutor(1) as thread:
            health = thread.submit(ask_health, server.port, seconds)
            try:
                yield
                found.update(json.loads(process.communicate(timeout=60)[0]))
            finally:
                process.kill()
            found["health_s"] = health.result()
        found["memory_bytes"] = _peak_bytes(server)

    outcome = simulate(
        f"sqlite:///{folder / 'hostile.db'}", 1, folder / "log", AGENTS, seconds, MEASURES_S, beside=strangers
    )
    uploads, answers, health_s = len(outcome.uploads_s), found["answers"], np.array(found["health_s"])
    answered_s = health_s[np.isfinite(health_s)]
    p50, p99 = np.percentile(outcome.uploads_s, [50, 99])
    lost = outcome.lost_measurements + sum(outcome.errors.values())
    return {
        "hostile.lost": Figure(value=lost, n=uploads, bar="<= 0"),
        "hostile.upload_p50_s": Figure(value=float(p50), unit="s", n=uploads),
        "hostile.upload_p99_s": Figure(value=float(p99), unit="s", n=uploads, bar="<= 2"),
        "hostile.health_missed": Figure(value=int(np.isinf(health_s).sum()), n=len(health_s), bar="<= 0"),
        "hostile.health_longest_s": Figure(value=float(answered_s.max(initial=0.0)), unit="s", n=len(answered_s)),
        "hostile.memory_mib": Figure(value=found["memory_bytes"] / MIB, unit="MiB", bar="<= 1024"),
        "hostile.dear_answered": Figure(value=answers.get("dear 200", 0), n=sum(answers.values())),
        "hostile.server_errors": Figure(value=sum(n for status, n in answers.items() if "500" in status), bar="<= 0"),
    }


def _peak_bytes(server: ServerProcess) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def ask_health(port: int, seconds: float) -> list[float]:
    """Seconds until each answer; infinite where none came within 5 s, or another than 200."""
    asked_s, end_s = [], time.monotonic() + seconds
    with httpx.Client(headers={"Connection": "close"}, timeout=5) as http:
        while time.monotonic() < end_s:
            began_s = time.monotonic()
            try:
                is_well = http.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
            except httpx.HTTPError:
                is_well = False
            asked_s.append(time.monotonic() - began_s if is_well else math.inf)
            time.sleep(0.5)
    return asked_s


def dear_requests(number: int) -> list[tuple[str, str, Callable[[], bytes]]]:
    """Method, path and body of requests that cost much; another number asks for others.

    A body is made for the request that is sent: else the strangers take the core that they attack.
    """

    def many_kernels() -> bytes:
        return json.dumps({"kernels": {f"Relu/1x{number}x{n}/1x{number}x{n}": 1 for n in range(1, 10_000)}}).encode()

    channels = 900 + number % 100
    plan = f"/v1/plan?space=fbnet/r224/c16/n64/k1000/i3&calibration=200&held_out=200&seed={number}"
    chain = f"/v1/graph?spec=chain:1:nor_conv_3x3/{channels}x8x8/{channels}x8x8/s1&batch={1 + number % 4000}"
    return [
        ("GET", chain, bytes),
        ("GET", f"{chain}&precision=int8", bytes),
        ("GET", f"/v1/graph?spec=chain:64:max_pool_3x3/{channels}x96x96/{channels}x96x96/s1&precision=int8", bytes),
        ("GET", "/v1/graph?spec=kernel:1:nchwc.ReorderInput/1x16000001x1x1/1x16000001x1x1", bytes),
        ("GET", plan, bytes),
        ("POST", "/v1/devices/fleet-0/predict", many_kernels),
        ("POST", "/v1/devices/fleet-0/kernels/missing", lambda: b'{"networks":[' + b"[]," * 1_300_000 + b"[]]}"),
        ("GET", f"/v1/runs/run-of-{number % AGENTS}/measurements", bytes),
        ("GET", "/v1/runs", bytes),
        ("GET", "/v1/jobs", bytes),
        ("GET", "/compare", bytes),
        ("GET", "/readyz", bytes),
    ]


async def attack(port: int, seconds: float, known: str) -> dict[str, Any]:
    """All of it for so long; returns what was answered."""
    answers: Counter[str] = Counter()
    end_s = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as http:
        others = [_be_silent(port, end_s) for _ in range(SILENT)]
        others += [_ask_dear(http, number, end_s, answers) for number in range(DEAR)]
        others += [_guess(http, known if number % 2 else "0" * 12, end_s, answers) for number in range(WRONG)]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + 1):  # whoever waits then goes away
                await asyncio.gather(*others)
    return {"answers": dict(answers)}


async def _be_silent(port: int, end_s: float) -> None:
    while time.monotonic() < end_s:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(), max(0.1, end_s - time.monotonic()))
            writer.close()
        await asyncio.sleep(0.1)


async def _ask_dear(http: httpx.AsyncClient, number: int, end_s: float, answers: Counter[str]) -> None:
    random_ = random.Random(number)
    while time.monotonic() < end_s:
        method, path, make_body = random_.choice(dear_requests(random_.randrange(10**6)))
        await _ask(http, "dear", answers, method, path, content=make_body())


async def _guess(http: httpx.AsyncClient, token_id: str, end_s: float, answers: Counter[str]) -> None:
    while time.monotonic() < end_s:
        headers = {"Authorization": f"Bearer lut_{token_id}_{random.getrandbits(200):050x}"}
        await _ask(http, "wrong", answers, "GET", "/v1/token", headers=headers)
        await asyncio.sleep(1.0)


async def _ask(http: httpx.AsyncClient, what: str, answers: Counter[str], method: str, path: str, **more: Any) -> None:
    try:
        answers[f"{what} {(await http.request(method, path, **more)).status_code}"] += 1
    except httpx.HTTPError as error:
        answers[f"{what} {type(error).__name__}"] += 1


if __name__ == "__main__":
    print(json.dumps(asyncio.run(attack(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))))
