"""Kernel counts on the wire: what a device says its runtime executes for each graph."""

from __future__ import annotations

from collections.abc import Mapping

from shared.errors import InvalidValue
from shared.kernels.kernel import parse_kernel

MOST_GRAPHS = 10_000
MOST_KERNELS = 100_000


def check_counts(field: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Raise InvalidValue unless every graph counts at least one kernel, each of them a kernel, at least once."""
    if not 1 <= len(counts) <= MOST_GRAPHS:
        raise InvalidValue(field, f"{len(counts)} graphs are not within 1 to {MOST_GRAPHS}")
    seen: set[str] = set()
    for graph, kernels in counts.items():
        if not kernels:
            raise InvalidValue(field, f"{graph[:120]} has no kernels")
        for kernel, n in kernels.items():
            if not 1 <= n <= MOST_KERNELS:
                raise InvalidValue(field, f"{n} times {kernel[:120]} is not within 1 to {MOST_KERNELS}")
        seen.update(kernels)
    for kernel in seen:
        parsed = parse_kernel(kernel)
        _ = (parsed.family, parsed.multiply_adds(), parsed.elements())
