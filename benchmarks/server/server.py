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

from benchmarks import DataMissing
from benchmarks.report import Figure
from benchmarks.server import fleet, kill, requests
from benchmarks.server.postgres import PostgresMissing, PostgresServer


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
    figures = requests.ingest(folder)
    progress("tables against a bare route")
    figures |= requests.get(folder)
    figures |= requests.growth(folder, progress)
    progress("calibration")
    figures |= requests.calibrate()
    progress(f"{fleet.AGENTS} agents for {fleet.SECONDS:g} s on each store")
    figures |= fleet.fleet(folder, postgres)
    progress(f"{kill.KILLS} kills on each store")
    return figures | kill.kill(folder, postgres)
