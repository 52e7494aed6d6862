"""How the server holds up: uploads and tables against the barest thing that could do it, a full database, the fit.

Every share is of two things measured in turns in one run, so that a busy machine slows both. The bare `executemany`
writes the rows that the server has stored into a table with the same columns, index and modes; the bare FastAPI route
runs under the same uvicorn and returns the same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import server_requests
from benchmarks.report import Figure


def run(progress: Callable[[str], None]) -> dict[str, Figure]:
    """Figures `server.*`; takes about five minutes and 4 GB of the disk for temporary files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress("uploads against executemany")
        figures = server_requests.ingest(folder)
        progress("tables against a bare route")
        figures |= server_requests.get(folder)
        figures |= server_requests.growth(folder, progress)
    progress("calibration")
    return {**figures, **server_requests.calibrate()}
