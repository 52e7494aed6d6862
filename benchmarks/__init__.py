"""The benchmarks behind docs/results.md: `python -m benchmarks NAME --json FILE`, or `make bench` for all of them.

A benchmark is a module with `run(progress: Progress) -> dict[str, Figure]`; `REGISTRY` says which there are.
"""

from collections.abc import Callable

Progress = Callable[[str], None]
"""Takes one line about what is being done; a benchmark that runs for minutes calls it often enough to show life."""


class DataMissing(Exception):
    """A benchmark needs published data that is not on this machine: it is left out."""


# Paths, not modules: asking for one benchmark must not import what only another one needs. The order is that of `all`.
REGISTRY: dict[str, str] = {
    "demo": "benchmarks.demo",
    "tables": "benchmarks.tables",
    "fbnet": "benchmarks.fbnet",
    "repeat": "benchmarks.repeat",
    "foreign": "benchmarks.foreign",
    "memory": "benchmarks.memory",
    "fixed_runs": "benchmarks.fixed_runs",
    "carriers": "benchmarks.carriers",
    "active": "benchmarks.calibration",
    "family": "benchmarks.family",
    "family_darts": "benchmarks.family_darts",
    "family_fbnet": "benchmarks.family_fbnet",
    "verify": "benchmarks.verify",
    "speed": "benchmarks.speed",
    "several_devices": "benchmarks.several_devices",
    "fmnist": "benchmarks.fmnist",
    "ablations": "benchmarks.ablations",
    "inherit": "benchmarks.inherit",
    "nas_bench_201": "benchmarks.nas_bench_201",
    "imported": "benchmarks.imported",
    "server": "benchmarks.server",
    "devices_install": "benchmarks.devices_install",
    "devices_web": "benchmarks.devices_web",
}

COMPOSED: dict[str, str] = {
    "profiling": "benchmarks.profiling",
    "search": "benchmarks.search",
    "devices": "benchmarks.devices",
}
"""Several of these under one name, for one file of figures; `all` runs the parts."""
