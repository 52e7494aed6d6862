"""The load that the server bears: uploads and tables, a full database, the fit, a fleet, kills.

Every share compares two things that are measured in turns in the same run, so that a busy machine
slows both. The bare `executemany` writes the stored rows into a table with the same columns, index
and modes. The bare FastAPI route runs under the same uvicorn and returns the same bytes. Losses
under a fleet of agents and under killed servers are counted on SQLite and on a PostgreSQL of its
own.
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
        postgres = PostgresServer(durable=True)
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
