"""Many simulated agents at once: each leases jobs, uploads measurements and hands in results.

Two agents serve each device. With several servers they use different servers, so that two agents
ask for the same job. In place of a measurement an agent waits some seconds (real agents measure for
minutes). Afterwards the database shows the fate of every job and of every acknowledged measurement.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.report import Figure
from benchmarks.server.postgres import PostgresServer
from benchmarks.server.process import (
    RUNTIME,
    SPACE,
    ServerProcess,
    batch_body,
    make_measurement,
    make_run,
    opened,
    serving,
)
from lut_server.auth import create_token
from lut_server.store.sql import Store
from shared.jobs import NewJob
from shared.wire import canonical_json

AGENTS, SECONDS = 200, 60.0
MEASURES_S = (5.0, 12.0)
BATCH, AGENTS_PER_TOKEN = 20, 20
LEASE_S, TIMEOUT_S = 120.0, 30.0


@dataclass
class Outcome:
    """The view of the agents, and then that of the database.

    Attributes:
        uploads_s: time of each upload.
        errors: number by kind.
        acknowledged: measurements, by run.
        leased: number of leases of each job.
        finished: ids of jobs whose result was acknowledged.
        lost_jobs: neither queued nor done, or without their acknowledged result.
        lost_measurements: acknowledged, but not there exactly once.
    """

    uploads_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    leased: Counter[str] = field(default_factory=Counter)
    finished: set[str] = field(default_factory=set)
    lost_jobs: int = 0
    lost_measurements: int = 0

    @property
    def held_by_two(self) -> int:
        """Jobs with more than one lease, though no lease ran out."""
        return sum(times > 1 for times in self.leased.values())


@dataclass(frozen=True)
class _Agent:
    number: int
    client: httpx.AsyncClient
    outcome: Outcome
    bodies: Sequence[bytes]
    measures_s: tuple[float, float]

    @property
    def device(self) -> str:
        return f"fleet-{self.number // 2}"

    @property
    def run(self) -> str:
        return f"run-of-{self.number}"

    async def work(self, until_s: float, random_s: random.Random) -> None:
        """Lease, measure, upload and hand in, until the time is up and no job is held."""
        await asyncio.sleep(random_s.uniform(0, self.measures_s[1]))
        uploads = 0
        while time.monotonic() < until_s:
            owner = {"owner": self.run, "lease_s": LEASE_S}
            answer = await self._ask("lease", "/v1/jobs/lease", canonical_json({"device": self.device, **owner}))
            job = None if answer is None else answer.json()["job"]
            if job is None:
                await asyncio.sleep(1.0)
                continue
            self.outcome.leased[job["id"]] += 1
            await asyncio.sleep(random_s.uniform(*self.measures_s) / 2)
            await self._ask("heartbeat", f"/v1/jobs/{job['id']}/heartbeat", canonical_json(owner))
            await asyncio.sleep(random_s.uniform(*self.measures_s) / 2)
            began_s = time.monotonic()
            body = self.bodies[uploads % len(self.bodies)]
            answer = await self._ask("upload", f"/v1/runs/{self.run}/measurements", body)
            self.outcome.uploads_s.append(time.monotonic() - began_s)
            if answer is not None:
                self.outcome.acknowledged[self.run] += int(answer.json()["stored"])
                uploads += 1
            result = canonical_json({"owner": self.run, "result": {"run": self.run}})
            if await self._ask("result", f"/v1/jobs/{job['id']}/result", result) is not None:
                self.outcome.finished.add(job["id"])

    async def _ask(self, what: str, path: str, body: bytes) -> httpx.Response | None:
        try:
            answer = await self.client.post(path, content=body)
        except httpx.HTTPError as error:
            self.outcome.errors[f"{what}: {type(error).__name__}"] += 1
            return None
        if answer.status_code == 200:
            return answer
        self.outcome.errors[f"{what}: {answer.status_code}"] += 1
        return None


def simulate(
    url: str,
    servers: int,
    log: Path,
    agents: int = AGENTS,
    seconds: float = SECONDS,
    measures_s: tuple[float, float] = MEASURES_S,
    beside: Callable[[Store, ServerProcess], AbstractContextManager[object]] | None = None,
) -> Outcome:
    """Let agents work on servers of an empty database, and check the database afterwards.

    `beside`: what else is done to the first server meanwhile.
    """
    most = 4 + round(seconds / measures_s[0])
    with opened(url) as store:
        tokens = [create_token(store.tokens, "agent") for _ in range(-(-agents // AGENTS_PER_TOKEN))]
        jobs = _prepare(store, agents, most)
    bodies = [batch_body([make_measurement(BATCH * n + k) for k in range(BATCH)]) for n in range(most)]
    outcome = Outcome()
    with ExitStack() as running:
        processes = [running.enter_context(serving(url, log)) for _ in range(servers)]
        if beside is not None:
            running.enter_context(beside(running.enter_context(opened(url)), processes[0]))
        ports = [process.port for process in processes]
        asyncio.run(_drive(ports, tokens, outcome, bodies, agents, seconds, measures_s))
    with opened(url) as store:
        _check(store, jobs, outcome)
    return outcome


def _prepare(store: Store, agents: int, most: int) -> set[str]:
    """Register devices, runs and more jobs than can be done; returns the ids of the jobs."""
    jobs = set()
    for number in range(agents):
        device = f"fleet-{number // 2}"
        if number % 2 == 0:
            store.devices.register(device, {})
        store.runs.put(make_run(f"run-of-{number}", device))
        job = NewJob(device, "profile", RUNTIME, "canary:conv-v1", str(SPACE))
        jobs |= {store.jobs.add(job).id for _ in range(most)}
    return jobs


async def _drive(
    ports: Sequence[int],
    tokens: Sequence[str],
    outcome: Outcome,
    bodies: Sequence[bytes],
    agents: int,
    seconds: float,
    measures_s: tuple[float, float],
) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    clients: dict[tuple[int, str], httpx.AsyncClient] = {}
    until_s = time.monotonic() + seconds
    working = []
    for number in range(agents):
        port, token = ports[number % len(ports)], tokens[number // AGENTS_PER_TOKEN]
        if (port, token) not in clients:
            clients[port, token] = httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {token}"},
                timeout=TIMEOUT_S,
                limits=limits,
            )
        agent = _Agent(number, clients[port, token], outcome, bodies, measures_s)
        working.append(agent.work(until_s, random.Random(number)))
    try:
        await asyncio.gather(*working)
    finally:
        for client in clients.values():
            await client.aclose()


def _check(store: Store, jobs: set[str], outcome: Outcome) -> None:
    states = {job.id: job.state for job in store.jobs.list()}
    lost = {job for job in jobs if states.get(job) not in ("queued", "done")}
    lost |= {job for job in outcome.finished if states.get(job) != "done"}
    outcome.lost_jobs = len(lost)
    stored = {run.run.id: run.measurements for run in store.runs.list()}
    outcome.lost_measurements = sum(abs(stored[run] - number) for run, number in outcome.acknowledged.items())


def fleet(folder: Path, postgres: PostgresServer) -> dict[str, Figure]:
    """`server.fleet.sqlite.*` with a server process, `server.fleet.postgresql.*` with two."""
    stores = {
        "sqlite": (f"sqlite:///{folder / 'fleet.db'}", 1),
        "postgresql": (postgres.create_database("fleet", "template0"), 2),
    }
    figures: dict[str, Figure] = {}
    for name, (url, servers) in stores.items():
        outcome = simulate(url, servers, folder / "fleet.log")
        figures |= _figures(f"server.fleet.{name}", outcome)
    return figures


def _figures(name: str, outcome: Outcome) -> dict[str, Figure]:
    uploads = len(outcome.uploads_s)
    p50, p99 = np.percentile(outcome.uploads_s, [50, 99])
    return {
        f"{name}.errors": Figure(value=sum(outcome.errors.values()), n=uploads, bar="<= 0"),
        f"{name}.jobs_lost": Figure(value=outcome.lost_jobs, n=len(outcome.leased), bar="<= 0"),
        f"{name}.held_by_two": Figure(value=outcome.held_by_two, n=len(outcome.leased), bar="<= 0"),
        f"{name}.measurements_lost": Figure(
            value=outcome.lost_measurements, n=sum(outcome.acknowledged.values()), bar="<= 0"
        ),
        f"{name}.upload_p50_s": Figure(value=float(p50), unit="s", n=uploads),
        f"{name}.upload_p99_s": Figure(value=float(p99), unit="s", n=uploads, bar="<= 1"),
    }
