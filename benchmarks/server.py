"""How the server holds up: uploads and tables against the barest thing that could do it, a full database, the fit.

Every share is of two things measured in turns in one run, so that a busy machine slows both. The bare `executemany`
writes the rows that the server has stored into a table with the same columns, index and modes; the bare FastAPI route
runs under the same uvicorn and returns the same bytes. What a fleet of agents and what servers that are killed lose is
counted on SQLite and on a PostgreSQL of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import DataMissing, server_fleet, server_kill, server_requests
from benchmarks.postgres import PostgresMissing, PostgresServer
from benchmarks.report import Figure


def run(progress: Callable[[str], None]) -> dict[str, Figure]:
    """Figures `server.*`; takes about seven minutes and 4 GB of the disk for temporary files."""
    try:
        postgres = PostgresServer()
    except PostgresMissing as missing:
        raise DataMissing(str(missing)) from missing
    try:
        postgres.start()
        with tempfile.TemporaryDirectory() as name:
            return _measure(Path(name), postgres, progress)
    finally:
        postgres.remove()


def _measure(folder: Path, postgres: PostgresServer, progress: Callable[[str], None]) -> dict[str, Figure]:
    progress("uploads against executemany")
    figures = server_requests.ingest(folder)
    progress("tables against a bare route")
    figures |= server_requests.get(folder)
    figures |= server_requests.growth(folder, progress)
    progress("calibration")
    figures |= server_requests.calibrate()
    progress(f"{server_fleet.AGENTS} agents for {server_fleet.SECONDS:g} s on each store")
    figures |= server_fleet.fleet(folder, postgres)
    progress(f"{server_kill.KILLS} kills on each store")
    return figures | server_kill.kill(folder, postgres)
