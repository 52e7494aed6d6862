"""The error of additive tables that were fitted to published latencies, on held-out architectures.

The 14 device columns of HELP and HW-NAS-Bench (NAS-Bench-201, all 15,625 architectures), each
fitted to 60 and to 500 networks and scored on 1,000 others, with three seeds. The figures do not
depend on this machine. `eyeriss` and `fpga` are analytical models: a perfect fit there proves
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

from benchmarks import DataMissing, Progress
from benchmarks.report import Figure
from lut_server.transfer.additive_fit import Split, fit_table
from lut_server.transfer.architectures import TimedColumn, latency_columns, read_column
from lut_server.transfer.imported_table import Target
from shared.spaces import make_space
from shared.tables.prediction import HeldOutError
from shared.tables.table_source import PER_ARCHITECTURE, TableSource

SEEDS = (0, 1, 2)
HELD_OUT = 1000
SHOWN = {60: ("mape_percent",), 500: ("mape_percent", "within_10_percent", "kendall_tau", "bound_coverage")}
DATA = Path(os.environ.get("LUTNAS_DATA", Path(__file__).parents[3] / "shared" / "data"))


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `imported.DEVICE.fitN.*`."""
    path = DATA / "nas_bench_201" / "latency_ms.csv"
    if not path.is_file():
        raise DataMissing(f"{path} is not there: LUTNAS_DATA names the folder with the published latencies")
    content, space = path.read_bytes(), make_space("nas-bench-201")
    figures = {}
    for device in latency_columns(content, path.name):
        progress(device)
        column = read_column(content, path.name, device, space)
        for fit, names in SHOWN.items():
            errors = list(_errors(device, column, fit))
            for name in names:
                values = [getattr(error, name) for error in errors]
                unit = "%" if name != "kendall_tau" else None
                figures[f"imported.{device}.fit{fit}.{name}"] = Figure(
                    value=fmean(values), unit=unit, n=len(values), spread=stdev(values)
                )
    return figures


def _errors(device: str, column: TimedColumn, fit: int) -> Iterator[HeldOutError]:
    space, source = make_space("nas-bench-201"), TableSource(PER_ARCHITECTURE, "latency_ms.csv", "", device)
    for seed in SEEDS:
        table = fit_table(Target(device), source, space, column, Split(fit, HELD_OUT, seed))
        assert table.held_out is not None
        yield table.held_out
