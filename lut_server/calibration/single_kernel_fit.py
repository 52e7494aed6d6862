"""Prices of kernels that were measured one by one, from graphs that hold one kernel so many times and nothing else.

    y_i = copies_i p_k + noise_i          (copies: of the long graph minus those of the short one)

A price's prior is what its family says (see `kernel_calibration`), so that a short kernel's noise does not carry far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from lut_server.calibration.kernel_model import family_costs, family_sizes, non_negative_fit, rounded
from shared.kernels.kernel import parse_kernel
from shared.measurements.measurement import Measurement
from shared.tables.single_kernel_prices import SingleKernel, SingleKernels

PRIOR_SHARE = 0.5
"""Standard deviation of a price around what its family says, as a share of it."""
LEAST_NOISE = 0.01
"""Of a graph's time: the same file loaded again differs by as much."""
RELATIVE_SPREAD = 0.03
LEAST_UNMEASURED_SHARE = 0.3
_SMALLEST_MS = 1e-6


@dataclass(frozen=True)
class _Row:
    """One measured price, and the short graph by itself: 0 copies where nothing was subtracted."""

    kernel: str
    ms: float
    sd_ms: float
    short_copies: int
    short_ms: float


def fit_single_kernels(
    measurements: Sequence[Measurement], nominal_ms: float, counts: Mapping[str, Mapping[str, int]], runs: Sequence[str]
) -> SingleKernels | None:
    """Fit prices to measured kernels; None where there are none.

    Args:
        measurements: of role "kernel", of any number of runs.
        nominal_ms: the canary's.
        counts: kernels by graph reference, as the device counted them.
    """
    rows = [row for measured in measurements if (row := _row(measured, nominal_ms, counts)) is not None]
    if not rows:
        return None
    names = sorted({row.kernel for row in rows})
    families = sorted({parse_kernel(name).family for name in names})
    phi = family_sizes([parse_kernel(row.kernel) for row in rows], families)
    measured_ms = np.maximum([row.ms for row in rows], _SMALLEST_MS)
    w = non_negative_fit(phi, measured_ms, 1 / measured_ms)
    expected = dict(zip([row.kernel for row in rows], np.maximum(phi @ w, _SMALLEST_MS).tolist(), strict=True))
    of_kernel: dict[str, list[_Row]] = {}
    for row in rows:
        of_kernel.setdefault(row.kernel, []).append(row)
    found = {name: _posterior(of_kernel[name], expected[name]) for name in names}
    strays = [(found[name][0] / expected[name] - 1) ** 2 for name in names]
    return SingleKernels(
        base_ms=rounded(_base(rows, {name: price_ms for name, (price_ms, _) in found.items()})),
        prices=tuple(SingleKernel(name, *map(rounded, found[name])) for name in names),
        families=family_costs(families, w),
        relative_spread=RELATIVE_SPREAD,
        unmeasured_share=max(LEAST_UNMEASURED_SHARE, rounded(math.sqrt(median(strays)))),
        runs=tuple(runs),
    )


def _row(measured: Measurement, nominal_ms: float, counts: Mapping[str, Mapping[str, int]]) -> _Row | None:
    """None where the device did not see the graphs execute this kernel and nothing else."""
    kernel, minus = measured.subject, measured.minus
    long, short = counts.get(measured.graph, {}), {} if minus is None else counts.get(minus, {})
    copies = long.get(kernel, 0) - short.get(kernel, 0)
    beside, of_short = ({name: n for name, n in found.items() if name != kernel} for found in (long, short))
    # A sequence that the kernel reads is made once; the difference of the two graphs does not hold that.
    alone = beside == of_short and all(name.startswith("SequenceConstruct/") for name in beside)
    if not alone or copies < 1 or (minus is not None and not short):
        return None
    estimate = measured.estimate()
    long_ms = nominal_ms * measured.graph_ratio()
    short_ms = 0.0 if minus is None else nominal_ms * measured.minus_ratio()
    half_ms = nominal_ms * estimate.half_width * measured.divisor / 2
    noise_ms = max(half_ms, LEAST_NOISE * math.hypot(long_ms, short_ms))
    ms = nominal_ms * estimate.ratio * measured.divisor
    return _Row(kernel, ms / copies, noise_ms / copies, 0 if beside else short.get(kernel, 0), short_ms)


def _posterior(rows: Sequence[_Row], expected_ms: float) -> tuple[float, float]:
    """Mean and standard deviation of a kernel's price; the mean is held at 0 where it comes out below."""
    precision = 1 / (PRIOR_SHARE * expected_ms) ** 2
    total = precision + sum(1 / row.sd_ms**2 for row in rows)
    mean_ms = (precision * expected_ms + sum(row.ms / row.sd_ms**2 for row in rows)) / total
    return max(mean_ms, 0.0), 1 / math.sqrt(total)


def _base(rows: Sequence[_Row], prices: Mapping[str, float]) -> float:
    """What a call costs: the rest of the shortest graphs."""
    rests = sorted(
        (row.short_ms, row.short_ms - row.short_copies * prices[row.kernel]) for row in rows if row.short_copies
    )
    shortest = rests[: max(len(rests) // 4, 1)]
    return max(median(rest for _, rest in shortest), 0.0) if shortest else 0.0
