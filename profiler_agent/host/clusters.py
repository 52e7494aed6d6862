"""Cores that are alike: phones and many boards have slow, fast and fastest ones on one chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """Cores with one highest frequency."""

    mhz: int
    cores: tuple[int, ...]

    def __str__(self) -> str:
        return f"{len(self.cores)} x {self.mhz} MHz (cores {join_numbers(self.cores)})"


def find_clusters(highest_khz: Mapping[int, int]) -> tuple[Cluster, ...]:
    """Clusters by the highest frequency of each core, the slowest first."""
    cores: dict[int, list[int]] = {}
    for core, khz in sorted(highest_khz.items()):
        cores.setdefault(khz // 1000, []).append(core)
    return tuple(Cluster(mhz, tuple(cores[mhz])) for mhz in sorted(cores))


def fastest_cores(clusters: Sequence[Cluster], threads: int) -> tuple[int, ...]:
    """Cores of the fastest cluster, and of the next ones as long as threads outnumber them."""
    found: list[int] = []
    for cluster in reversed(clusters):
        if found and len(found) >= threads:
            break
        found += cluster.cores
    return tuple(sorted(found))


def affinity_mask(cores: Sequence[int]) -> str:
    """As `taskset` takes it: hexadecimal, a bit for each core."""
    return f"{sum(1 << core for core in cores):x}"


def join_numbers(numbers: Sequence[int]) -> str:
    """Numbers in rising order, runs of them as first-last: 0-3,7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
