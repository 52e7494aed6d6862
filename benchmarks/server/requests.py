"""Rates of uploads and tables, as shares of the barest program that could do the same."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.report import Figure
from benchmarks.server.process import (
    RUNTIME,
    SPACE,
    Connection,
    agent_token,
    batch_body,
    make_measurement,
    make_run,
    opened,
    request,
    requests_per_second,
    running,
    serving,
)
from lut_server.calibration.op_calibration import fit_prices
from shared.tables.held_out_error import HeldOutError
from shared.tables.table import LatencyTable, NetworkCheck, OpPrice
from shared.wire import canonical_json

DEVICE = "bench"
BATCHES, BATCH = 10, 2000
ROUNDS = 7
SLICES, SECONDS = 21, 0.4
"""Many short turns, so that a busy moment spoils a few of them and not the median."""
FEW, MANY = 10_000, 10_000_000
_INSERT = "INSERT INTO measurements (run, id, role, content_hash, content) VALUES (?, ?, ?, ?, ?)"
_FILL = """
WITH RECURSIVE counter (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM counter WHERE n + 1 < ?)
INSERT INTO measurements (run, id, role, content_hash, content)
SELECT 'run-' || (n / 1000), 'held_out-' || (n % 1000), 'held_out', printf('%064d', n), ? FROM counter
"""


def ingest(folder: Path) -> dict[str, Figure]:
    """Rows per second over HTTP, and as a share of `executemany` of the same rows."""
    url = f"sqlite:///{folder / 'ingest.db'}"
    batches = [[make_measurement(n) for n in range(start, start + BATCH)] for start in range(0, BATCHES * BATCH, BATCH)]
    bodies = [batch_body(batch) for batch in batches]
    token = agent_token(url)
    with opened(url) as store:
        store.devices.register(DEVICE, {})
        for n in range(ROUNDS):
            store.runs.put(make_run(f"run-{n}"))
    ours, bare = [], []
    with serving(url, folder / "server.log") as server:
        connection = Connection(server.port)
        for n in range(ROUNDS):
            uploads = [request("POST", f"/v1/runs/run-{n}/measurements", body, token) for body in bodies]
            started_s = time.perf_counter()
            for upload in uploads:
                status, answer = connection.ask(upload)
                assert status == 200, answer
            ours.append(BATCHES * BATCH / (time.perf_counter() - started_s))
            bare.append(BATCHES * BATCH / _bare_seconds(folder / f"bare-{n}.db", url, n))
        connection.close()
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return {
        "server.ingest_ratio": Figure(value=median(ratios), n=ROUNDS, spread=_range(ratios), bar=">= .15"),
        "server.ingest_rows_per_s": Figure(value=median(ours), unit="rows/s", n=ROUNDS, spread=_range(ours)),
    }


def _bare_seconds(path: Path, url: str, number: int) -> float:
    """Seconds to insert the stored rows into a table with the same columns, index and modes."""
    source = sqlite3.connect(url.removeprefix("sqlite:///"))
    columns = "run, id, role, content_hash, content"
    rows = source.execute(f"SELECT {columns} FROM measurements WHERE run = ? ORDER BY number", (f"run-{number}",))
    stored = rows.fetchall()
    statements = [text for (text,) in source.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'measurements'")]
    source.close()
    assert len(stored) == BATCHES * BATCH
    bare = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", *statements):
        bare.execute(statement)

    def insert() -> None:
        for start in range(0, len(stored), BATCH):
            bare.execute("BEGIN IMMEDIATE")
            bare.executemany(_INSERT, stored[start : start + BATCH])
            bare.execute("COMMIT")

    seconds = _seconds(insert)
    bare.close()
    path.unlink()
    return seconds


def make_table(prices: int, networks: int) -> LatencyTable:
    """A table of random numbers with all digits, as in a measured table."""
    rng = np.random.default_rng(0)
    numbers = rng.uniform(0.1, 2.0, (max(prices, networks), 6)).tolist()
    covariance = rng.normal(0.0, 1e-3, (prices + 1, prices + 1))
    genotype = SPACE.format(SPACE.fastest())
    return LatencyTable(
        device=DEVICE,
        runtime=RUNTIME,
        space=str(SPACE),
        canary="canary:conv-v1",
        canary_nominal_ms=0.4,
        agent_version="0",
        base_ms=0.61,
        prices=tuple(OpPrice(f"nor_conv_3x3/16x32x32/16x32x32/s{n + 1}", *numbers[n][:5]) for n in range(prices)),
        covariance=tuple(tuple(row) for row in (covariance @ covariance.T).tolist()),
        relative_spread=0.02,
        held_out=HeldOutError(40, 2.1, 92.5, 100.0, 0.94, 97.5, 4.4),
        networks=tuple(NetworkCheck(genotype, "held_out", *numbers[n][:3]) for n in range(networks)),
        runs=("run-0",),
    )


def get(folder: Path) -> dict[str, Figure]:
    """Requests per second of a table and of its 304, also as shares of a bare route's."""
    figures = {}
    # 1,000 entries as a small space has them, a few prices and many networks; and 1,000 prices with
    # their covariance.
    for name, prices, networks in (("", 24, 976), (".covariance", 1000, 0)):
        table = make_table(prices, networks)
        content = folder / f"table{name}.json"
        content.write_bytes(canonical_json(table))
        url = f"sqlite:///{folder / f'get{name}.db'}"
        _store_table(url, table)
        path = f"/v1/devices/{DEVICE}/table?space=nas-bench-201"
        with (
            serving(url, folder / "server.log") as server,
            running(["-m", "benchmarks.server.bare_app", str(content)], folder / "bare.log") as bare,
        ):
            whole = request("GET", path), request("GET", "/bytes")
            unchanged = (
                request("GET", path, headers={"If-None-Match": f'"{table.hash}"'}),
                request("GET", "/not-modified"),
            )
            figures[f"server.get_ratio{name}"] = _ratio(server.port, bare.port, *whole, ">= .5")
            figures[f"server.get_304_ratio{name}"] = _ratio(server.port, bare.port, *unchanged, ">= .5")
    return figures


def _store_table(url: str, table: LatencyTable) -> None:
    with opened(url) as store:
        store.devices.register(DEVICE, {})
        store.runs.put(make_run("run-0"))
        store.runs.finish("run-0", table)


def _ratio(ours: int, bare: int, ask_ours: bytes, ask_bare: bytes, bar: str) -> Figure:
    ratios = []
    for _ in range(SLICES):
        mine = requests_per_second(ours, ask_ours, SECONDS)
        ratios.append(mine / requests_per_second(bare, ask_bare, SECONDS))
    return Figure(value=median(ratios), n=SLICES, spread=_range(ratios), bar=bar)


def growth(folder: Path, progress: Callable[[str], None]) -> dict[str, Figure]:
    """Time of the same GET with many stored measurements, over its time with few."""
    table = make_table(24, 976)
    urls = []
    for rows in (FEW, MANY):
        progress(f"growth: {rows:,} measurements")
        path = folder / f"growth-{rows}.db"
        _store_table(f"sqlite:///{path}", table)
        fill(path, rows)
        urls.append(f"sqlite:///{path}")
    sent = request("GET", f"/v1/devices/{DEVICE}/table?space=nas-bench-201")
    with serving(urls[0], folder / "few.log") as few, serving(urls[1], folder / "many.log") as many:
        pairs = [(_time_of(many.port, sent), _time_of(few.port, sent)) for _ in range(ROUNDS)]
    ratios = [a / b for a, b in pairs]
    return {"server.get_growth": Figure(value=median(ratios), n=ROUNDS, spread=_range(ratios), bar="<= 1.3")}


def fill(path: Path, rows: int) -> None:
    """Insert measurements into the database's tables, a thousand per run."""
    content = canonical_json(make_measurement(0)).decode()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    content_of_run = canonical_json(make_run("run-0")).decode()
    runs = [(f"run-{n}", DEVICE, content_of_run, "2026-01-01") for n in range(1, math.ceil(rows / 1000))]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO runs (id, device, content, created_at) VALUES (?, ?, ?, ?)", runs)
    # The index is made of sorted keys at the end, which is many times faster than row by row.
    (index,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ix_measurements_run_id'").fetchone()
    connection.execute("DROP INDEX ix_measurements_run_id")
    connection.execute(_FILL, (0, rows, content[:200]))
    connection.execute(index)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _time_of(port: int, sent: bytes) -> float:
    connection = Connection(port)
    times = [_seconds(lambda: connection.ask(sent)) for _ in range(200)]
    connection.close()
    return median(times)


def calibrate() -> dict[str, Figure]:
    """Seconds for the fit of the base and 199 prices to 400 networks."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (400, 199)).astype(float)
    true_ms = rng.uniform(0.02, 1.5, 199)
    latency_ms = (0.6 + counts @ true_ms) * rng.normal(1.0, 0.01, 400)
    marginal_ms = true_ms * rng.normal(1.0, 0.1, 199)
    times = [_seconds(lambda: fit_prices(counts, latency_ms, marginal_ms, 0.05 * true_ms)) for _ in range(3)]
    return {"server.calibrate_seconds": Figure(value=median(times), unit="s", n=3, spread=_range(times), bar="<= 1")}


def _seconds(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"
