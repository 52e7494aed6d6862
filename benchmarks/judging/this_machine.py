"""This machine as a device: its table, made as a user makes it, and latencies of whole networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np

from benchmarks.latency.in_process import build_models, measure_tasks
from benchmarks.stack import running_stack, this_device
from profiler_agent.timing.stopping import PRESETS, Preset
from search.runs.run_directory import find_value, write_value
from shared.measurements.graph_spec import NetworkGraph
from shared.measurements.plan import Task
from shared.spaces import Space
from shared.tables.table import LatencyTable, read_table


@dataclass(frozen=True)
class _Latencies:
    ms: dict[str, float]


def get_table(space: Space, folder: Path, options: Sequence[str] = (), kept: str = "table.json") -> LatencyTable:
    """The table of this machine, profiled with a server and an agent.

    Args:
        folder: keeps it, in the file `kept`. Tables of one folder share a millisecond.
        options: further options of `profiler-agent profile`.
    """
    path = folder / kept
    table = find_value(LatencyTable, path)
    if table is None:
        with running_stack(folder / "stack") as stack:
            stack.profile(this_device(), "--space", str(space), *options)
            listed = httpx.get(f"{stack.url}/v1/tables", params={"device": this_device()}, timeout=60).json()
            newest = listed["tables"][-1]["hash"]
            table = read_table(httpx.get(f"{stack.url}/v1/tables/{newest}", timeout=60).json())
        write_value(path, table)
    return table


def with_cells(table: LatencyTable, space: Space) -> LatencyTable:
    """The table for a space with fewer of the same cells: an op costs what its repetitions cost.

    Args:
        table: of a space in which every op is repeated `depth` times.
    """
    factor = table.parsed_space.depth / space.depth
    scale = np.array([1.0, *[factor] * len(table.prices)])
    prices = [
        replace(
            price,
            **{
                name: factor * getattr(price, name)
                for name in ("price_ms", "sd_ms", "marginal_ms", "marginal_low_ms", "marginal_high_ms")
            },
        )
        for price in table.prices
    ]
    covariance = scale[:, None] * np.array(table.covariance) * scale
    return replace(
        table,
        space=str(space),
        prices=tuple(prices),
        covariance=tuple(map(tuple, covariance.tolist())),
        networks=(),
        kernels=None,
        single_kernels=None,
    )


def measure_ms(
    table: LatencyTable, genotypes: Sequence[str], folder: Path, preset: Preset = PRESETS["standard"]
) -> dict[str, float]:
    """Latency of each network on this machine. `folder` keeps what was measured.

    Args:
        table: its space is that of the networks; a millisecond is that of its canary.
    """
    path, space = folder / "latencies.json", table.parsed_space
    kept = find_value(_Latencies, path)
    known = kept.ms if kept else {}
    missing = sorted(set(genotypes) - known.keys())
    if missing:
        tasks = [Task(name, "verification", str(NetworkGraph(space, space.parse(name)))) for name in missing]
        measured = measure_tasks(tasks, build_models(tasks), preset=preset)
        known |= {each.subject: each.estimate().ratio * table.canary_nominal_ms for each in measured}
        write_value(path, _Latencies(known))
    return {name: known[name] for name in genotypes}
