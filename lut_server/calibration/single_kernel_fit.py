"""Prices of kernels that were measured one by one, from graphs that differ by so many copies of one.

    y_i = sum_k d_ik p_k + noise_i          (d: kernels of the long graph minus those of the short one)

What comes along with a kernel is in d: layers without weights bring a reorder, which has a task of its own, and results
are read by two cheap kernels, whose price is one number per operator, known from one convolution measured in both ways.
A price's prior is what its family says (see `kernel_calibration`), so that a short kernel's noise does not carry far.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from shared.kernels.kernel import parse_kernel
from shared.measurements.measurement import Measurement
from shared.tables.kernel_prices import FamilyCost, family_size
from shared.tables.single_kernel_prices import SingleKernel, SingleKernels

Array = NDArray[np.float64]

PRIOR_SHARE = 0.5
"""Standard deviation of a price around what its family says, as a share of it."""
LEAST_NOISE = 0.01
"""Of a graph's time: the same file loaded again differs by as much."""
RELATIVE_SPREAD = 0.03
LEAST_UNMEASURED_SHARE = 0.3
READERS = ("nchwc.MaxPool", "MaxPool", "Add", "Mul")
_SMALLEST_MS = 1e-6


@dataclass(frozen=True)
class _Row:
    """One measured difference, and the short graph by itself."""

    subject: str
    counts: Mapping[str, int]
    ms: float
    sd_ms: float
    short_counts: Mapping[str, int]
    short_ms: float
    probed: bool


def fit_single_kernels(
    measurements: Sequence[Measurement], nominal_ms: float, counts: Mapping[str, Mapping[str, int]], runs: Sequence[str]
) -> SingleKernels | None:
    """Fit prices to measured kernels; None where there are none.

    Args:
        measurements: of role "kernel", of any number of runs.
        nominal_ms: the canary's.
        counts: kernels by graph reference, as the device counted them.
    """
    rows = [row for one in measurements if (row := _row(one, nominal_ms, counts)) is not None]
    if not rows:
        return None
    names = sorted({_name(kernel, row) for row in rows for kernel in row.counts})
    kernels = [name for name in names if not name.startswith(_READING)]
    families = sorted({parse_kernel(kernel).family for kernel in kernels})
    design, y = np.zeros((len(rows), len(names))), np.array([row.ms for row in rows])
    for line, row in zip(design, rows, strict=True):
        for kernel, n in row.counts.items():
            line[names.index(_name(kernel, row))] += n
    reads = np.array([name.startswith(_READING) for name in names])
    reading_ms = _reading_ms(rows)
    without_reading = np.maximum(y - design[:, reads].sum(axis=1) * reading_ms, 0.1 * y)
    phi = _sizes(names, families)
    w = _family_costs(design @ phi, without_reading)
    expected = np.where(reads, reading_ms, _within_own(phi @ w, names, rows))
    price, sd = _posterior(design, y, np.array([row.sd_ms for row in rows]), np.maximum(expected, _SMALLEST_MS))
    by_name = dict(zip(names, price.tolist(), strict=True))
    strays = [abs(by_name[kernel] / expected[names.index(kernel)] - 1) for kernel in kernels]
    return SingleKernels(
        base_ms=_rounded(_base(rows, by_name)),
        prices=tuple(SingleKernel(k, _rounded(by_name[k]), _rounded(float(sd[names.index(k)]))) for k in kernels),
        families=tuple(
            FamilyCost(name, *(_rounded(float(cost)) for cost in w[3 * i : 3 * i + 3]))
            for i, name in enumerate(families)
        ),
        relative_spread=RELATIVE_SPREAD,
        unmeasured_share=max(LEAST_UNMEASURED_SHARE, _rounded(math.sqrt(median(stray**2 for stray in strays)))),
        runs=tuple(runs),
    )


_READING = "reading "


def _row(one: Measurement, nominal_ms: float, counts: Mapping[str, Mapping[str, int]]) -> _Row | None:
    if one.minus is None or one.graph not in counts or one.minus not in counts:
        return None
    long, short = counts[one.graph], counts[one.minus]
    difference = Counter(long)
    difference.subtract(short)
    if not difference or min(difference.values()) < 0:
        return None  # the runtime made something else of the longer graph: nothing to learn from their difference
    estimate = one.estimate()
    long_ms, short_ms = nominal_ms * one.graph_ratio(), nominal_ms * one.minus_ratio()
    noise_ms = max(nominal_ms * estimate.half_width * one.divisor / 2, LEAST_NOISE * math.hypot(long_ms, short_ms))
    ms = nominal_ms * estimate.ratio * one.divisor
    return _Row(
        one.subject,
        {k: n for k, n in difference.items() if n},
        ms,
        noise_ms,
        short,
        short_ms,
        one.graph.startswith("probed:"),
    )


def _name(kernel: str, row: _Row) -> str:
    """The kernel, or what stands for the reading of results wherever they come from."""
    if kernel == row.subject:
        return kernel
    parsed = parse_kernel(kernel)
    reads = parsed.op in READERS and (len(parsed.output) < 4 or math.prod(parsed.output[2:]) == 1)
    return _READING + parsed.op if reads else kernel


def _reading_ms(rows: Sequence[_Row]) -> float:
    """What one of the kernels that read results costs: the same kernel side by side, less in a row."""
    ways: dict[tuple[str, bool], list[float]] = {}
    readers = 1
    for row in rows:
        copies = row.counts.get(row.subject, 0)
        if copies:
            ways.setdefault((row.subject, row.probed), []).append(row.ms / copies)
        if copies and row.probed:
            readers = max(readers, round(sum(n for kernel, n in row.counts.items() if kernel != row.subject) / copies))
    both = [
        median(ms) - median(ways[subject, False])
        for (subject, probed), ms in ways.items()
        if probed and (subject, False) in ways
    ]
    return max(median(both), 0.0) / readers if both else 0.0


def _within_own(expected: Array, names: Sequence[str], rows: Sequence[_Row]) -> Array:
    """What families say, but no less and no more than a kernel's own graphs leave room for."""
    own = {row.subject: row.ms / row.counts[row.subject] for row in rows if row.subject in row.counts}
    bounds = [own.get(name) for name in names]
    return np.array(
        [
            value if bound is None else min(max(value, 0.5 * bound), bound)
            for value, bound in zip(expected.tolist(), bounds, strict=True)
        ]
    )


def _sizes(names: Sequence[str], families: Sequence[str]) -> Array:
    """Three columns for each family; what reads has none."""
    phi = np.zeros((len(names), 3 * len(families)))
    for line, name in zip(phi, names, strict=True):
        if not name.startswith(_READING):
            kernel = parse_kernel(name)
            place = 3 * families.index(kernel.family)
            line[place : place + 3] = family_size(kernel)
    return phi


def _family_costs(x: Array, y: Array) -> Array:
    weight = 1 / np.maximum(y, _SMALLEST_MS)
    scale = np.maximum(np.linalg.norm(x * weight[:, None], axis=0), 1e-300)
    return np.asarray(nnls(x * weight[:, None] / scale, y * weight)[0] / scale)


def _posterior(design: Array, y: Array, noise: Array, expected: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each price; the mean is held at 0 where it comes out below."""
    prior_sd = PRIOR_SHARE * expected
    scaled = design * prior_sd / noise[:, None]
    z = (y - design @ expected) / noise
    inner = np.linalg.inv(np.eye(len(y)) + scaled @ scaled.T)
    mean = expected + prior_sd * (scaled.T @ (inner @ z))
    explained = np.einsum("ij,ik,kj->j", scaled, inner, scaled)
    return np.maximum(mean, 0.0), prior_sd * np.sqrt(np.maximum(1 - explained, 0.0))


def _base(rows: Sequence[_Row], prices: Mapping[str, float]) -> float:
    """What a call costs: the rest of the shortest graphs of which all is known."""
    rests = []
    for row in rows:
        names = {_name(kernel, row): n for kernel, n in row.short_counts.items()}
        if all(name in prices for name in names):
            rests.append((row.short_ms, row.short_ms - sum(n * prices[name] for name, n in names.items())))
    shortest = sorted(rests)[: max(len(rests) // 4, 1)]
    return max(median(rest for _, rest in shortest), 0.0) if shortest else 0.0


def _rounded(value: float) -> float:
    """Seven digits: more would be noise."""
    return float(f"{value:.7g}")
