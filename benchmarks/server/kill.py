"""Servers that are killed during uploads: each acknowledged measurement must be there exactly once.

`kill -9` ends a server at a random moment, and the next server starts on the same database. The
uploaders note each acknowledgement, send a batch without an answer again, and continue.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from benchmarks.report import Figure
from benchmarks.server.postgres import PostgresServer
from benchmarks.server.process import (
    Connection,
    agent_token,
    batch_body,
    make_measurement,
    make_run,
    opened,
    request,
    serving,
)
from shared.measurements.measurement import Measurement
from shared.wire import content_hash

KILLS = 50
UPLOADERS, BATCH = 3, 20
FIRST_UPLOAD_S = 30.0
LONGEST_LIFE_S = 0.4


@dataclass
class Uploads:
    """Content hashes of a database's acknowledged measurements, by run and id."""

    acknowledged: dict[tuple[str, str], str] = field(default_factory=dict)
    refused: list[bytes] = field(default_factory=list)
    port: int = 0
    over: bool = False


@dataclass(frozen=True)
class Remains:
    """The database after all kills.

    Attributes:
        acknowledged: measurements that a server acknowledged.
        lost: those that are missing or have other content.
        doubled: those that are there more than once.
        is_sound: result of SQLite's integrity check; None for PostgreSQL, which was not killed.
    """

    kills: int
    acknowledged: int
    lost: int
    doubled: int
    is_sound: bool | None


def kill_again_and_again(url: str, log: Path, kills: int = KILLS, seed: int = 0) -> Remains:
    """Kill servers of an empty database at random moments during uploads, and check the database.

    Raises:
        RuntimeError: a server refused an upload, or took none.
    """
    chance, uploads = random.Random(seed), Uploads()
    token = agent_token(url)
    with opened(url) as store:
        store.devices.register("bench", {})
        for number in range(UPLOADERS):
            store.runs.put(make_run(f"run-{number}"))
    threads = [threading.Thread(target=_upload, args=(uploads, f"run-{n}", token)) for n in range(UPLOADERS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            before = len(uploads.acknowledged)
            with serving(url, log) as server:
                uploads.port = server.port
                _wait_for_more(uploads, before)
                time.sleep(chance.uniform(0, LONGEST_LIFE_S))
                server.kill()
    finally:
        uploads.over = True
        for thread in threads:
            thread.join()
    if uploads.refused:
        raise RuntimeError(f"a server refused an upload: {uploads.refused[0][:300]!r}")
    return _remains(url, uploads, kills)


def _wait_for_more(uploads: Uploads, before: int) -> None:
    until_s = time.monotonic() + FIRST_UPLOAD_S
    while len(uploads.acknowledged) == before:
        if time.monotonic() > until_s or uploads.refused:
            raise RuntimeError(f"a server took no upload for {FIRST_UPLOAD_S:g} s: {uploads.refused[:1]!r}")
        time.sleep(0.005)


def _upload(uploads: Uploads, run: str, token: str) -> None:
    number = 0
    while not uploads.over:
        batch = [make_measurement(number + k) for k in range(BATCH)]
        sent = request("POST", f"/v1/runs/{run}/measurements", batch_body(batch), token)
        if not _send(uploads, sent):
            return
        uploads.acknowledged.update(_hashes(run, batch))
        number += BATCH


def _send(uploads: Uploads, sent: bytes) -> bool:
    """Send until it is acknowledged; False if it is refused or all is over."""
    while not uploads.over:
        try:
            connection = Connection(uploads.port)
        except OSError:
            time.sleep(0.02)
            continue
        try:
            status, answer = connection.ask(sent)
        except OSError:
            continue
        finally:
            connection.close()
        if status != 200:
            uploads.refused.append(answer)
        return status == 200
    return False


def _hashes(run: str, batch: list[Measurement]) -> dict[tuple[str, str], str]:
    return {(run, measurement.id): content_hash(measurement) for measurement in batch}


def _remains(url: str, uploads: Uploads, kills: int) -> Remains:
    there: Counter[tuple[str, str, str]] = Counter()
    with opened(url) as store:
        with store.database.read() as connection:
            for row in connection.execute(text("SELECT run, id FROM measurements")):
                there[row.run, row.id, ""] += 1
        for number in range(UPLOADERS):
            for measurement in store.runs.measurements(f"run-{number}"):
                there[f"run-{number}", measurement.id, content_hash(measurement)] += 1
    lost = sum(there[run, identity, digest] == 0 for (run, identity), digest in uploads.acknowledged.items())
    doubled = sum(times > 1 for times in there.values())
    return Remains(kills, len(uploads.acknowledged), lost, doubled, _is_sound(url))


def _is_sound(url: str) -> bool | None:
    if not url.startswith("sqlite"):
        return None
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    found = connection.execute("PRAGMA integrity_check").fetchall(), connection.execute("PRAGMA foreign_key_check")
    sound = found[0] == [("ok",)] and found[1].fetchall() == []
    connection.close()
    return sound


def kill(folder: Path, postgres: PostgresServer) -> dict[str, Figure]:
    """`server.kill.STORE.*`, and the sums over both stores; both at the same time."""
    urls = {"sqlite": f"sqlite:///{folder / 'kill.db'}", "postgresql": postgres.create_database("kill", "template0")}
    with ThreadPoolExecutor(len(urls)) as pool:
        left = dict(
            zip(urls, pool.map(lambda url: kill_again_and_again(url, folder / "kill.log"), urls.values()), strict=True)
        )
    figures = {
        "server.kill.lost": Figure(
            value=sum(remains.lost for remains in left.values()), n=KILLS * len(left), bar="<= 0"
        ),
        "server.kill.doubled": Figure(
            value=sum(remains.doubled for remains in left.values()), n=KILLS * len(left), bar="<= 0"
        ),
    }
    for name, remains in left.items():
        figures |= {
            f"server.kill.{name}.lost": Figure(value=remains.lost, n=remains.kills, bar="<= 0"),
            f"server.kill.{name}.doubled": Figure(value=remains.doubled, n=remains.kills, bar="<= 0"),
            f"server.kill.{name}.acknowledged": Figure(value=remains.acknowledged, n=remains.kills),
        }
        if remains.is_sound is not None:
            figures[f"server.kill.{name}.unsound"] = Figure(
                value=0 if remains.is_sound else 1, n=remains.kills, bar="<= 0"
            )
    return figures
