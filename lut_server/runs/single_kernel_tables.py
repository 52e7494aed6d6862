"""Adds the prices of single kernels to a table: from every run of that device and runtime that measured kernels."""

from __future__ import annotations

from dataclasses import replace

from lut_server.calibration.single_kernel_fit import fit_single_kernels
from lut_server.store.sql import Store
from shared.measurements.measurement import Measurement, Run
from shared.tables.table import LatencyTable


def add_single_kernels(store: Store, table: LatencyTable, run: Run, nominal_ms: float) -> LatencyTable:
    """The table with what `run` and the finished runs before it say of single kernels; the rest stays as it is."""
    measured: list[Measurement] = []
    runs = []
    for stored in store.runs.list(run.device):
        same = stored.run.runtime == run.runtime and stored.run.canary == run.canary
        if not same or not (stored.finished or stored.run.id == run.id):
            continue
        found = store.runs.measured_kernels(stored.run.id)
        if found:
            measured += found
            runs.append(stored.run.id)
    graphs = sorted({graph for one in measured for graph in (one.graph, one.minus) if graph is not None})
    counts = store.kernels.of_graphs(run.device, str(run.runtime), graphs)
    single = fit_single_kernels(measured, nominal_ms, counts, runs)
    return table if single is None else replace(table, single_kernels=single)
