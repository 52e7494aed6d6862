"""The model behind kernel prices: what a graph's measured time is made of, and what is believed
before the fit.

    y_i = base + sum_k n_ik p_k + noise_i,      p_k = phi_k . w_family(k) + d_k

A chain's few weights stay in the cache, a network's do not. So a kernel takes only a `share` of its
price in a chain, and a chain lacks what its weights would cost to read from farther away: `cold`,
the share of a mean network's latency that goes into that, is spread over graphs by their weights,

    y_chain = measured
        + cold x mean latency of networks x (weights of the chain / mean weights of networks)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from shared.errors import InvalidValue
from shared.kernels.kernel import Kernel, parse_kernel
from shared.tables.kernel_prices import FamilyCost, family_size

Array = NDArray[np.float64]

FAMILY_SHARE = 0.3
BASE_SHARE = 0.5
TYPICAL_REL = 0.015
SMALLEST_PRICE = 1e-5
"""Of the mean latency: the least that a kernel is taken to cost before it was measured."""


@dataclass(frozen=True)
class MeasuredGraph:
    """A graph measured whole: a network of the fit, or a chain."""

    counts: Mapping[str, int]
    measured_ms: float
    is_network: bool


@dataclass(frozen=True)
class Model:
    """The regression in units of the mean latency. Columns of `features`: base, three per family,
    one column per kernel.

    Attributes:
        measured: latency of each graph.
        y: that, and what a chain lacks against a network.
        lacking: what a chain would lack if networks did nothing but read weights; 0 for networks.
    """

    kernels: tuple[str, ...]
    families: tuple[str, ...]
    phi: Array
    counts: Array
    measured: Array
    y: Array
    lacking: Array
    is_network: NDArray[np.bool_]
    unit: float

    @property
    def features(self) -> Array:
        return np.column_stack([np.ones(len(self.y)), self.counts @ self.phi, self.counts])


@dataclass(frozen=True)
class ChainSetting:
    """How chains differ from networks.

    Attributes:
        noise: of chains beyond that of networks, as a share.
        cold: share of a mean network's latency that goes into reading weights which a chain has in
            the cache.
    """

    share: float
    noise: float
    cold: float


@dataclass(frozen=True)
class Prior:
    """What the family model says, and how far the measurements lie from it.

    Attributes:
        chain: noise of chains beyond that of networks, as a share.
        family_cost: base, then three coefficients per family.
        prices: of the kernels, at least `SMALLEST_PRICE`.
    """

    model: Model
    chain: float
    family_cost: Array
    fixed_sd: Array
    prices: Array

    @property
    def residual(self) -> Array:
        return np.asarray(self.model.y - self.family_cost[0] - self.model.counts @ self.prices)


def make_model(graphs: Sequence[MeasuredGraph]) -> Model:
    """The regression that measured graphs make.

    Raises:
        InvalidValue: a latency is not a positive time.
    """
    y = np.array([graph.measured_ms for graph in graphs], dtype=float)
    if not (np.isfinite(y).all() and (y > 0).all()):
        raise InvalidValue("calibration", "a graph's latency is not a positive time")
    unit = float(np.exp(np.mean(np.log(y))))
    kernels = tuple(sorted({kernel for graph in graphs for kernel in graph.counts}))
    parsed = [parse_kernel(kernel) for kernel in kernels]
    families = tuple(sorted({kernel.family for kernel in parsed}))
    phi = family_sizes(parsed, families)
    counts = np.array([[graph.counts.get(kernel, 0) for kernel in kernels] for graph in graphs], dtype=float)
    is_network = np.array([graph.is_network for graph in graphs])
    weights = counts @ np.array([kernel.weights() for kernel in parsed], dtype=float)
    of_networks = float(weights[is_network].mean()) if is_network.any() else 0.0
    lacking = np.zeros(len(y))
    if of_networks:
        lacking = np.where(is_network, 0.0, weights / of_networks) * float(y[is_network].mean()) / unit
    return Model(kernels, families, phi, counts, y / unit, y / unit, lacking, is_network, unit)


def _family_costs(model: Model, chain: float) -> Array:
    """Base and family coefficients."""
    x = np.column_stack([np.ones(len(model.y)), model.counts @ model.phi])
    weight = np.where(model.is_network, 1.0, TYPICAL_REL / math.hypot(TYPICAL_REL, chain)) / model.measured
    return non_negative_fit(x, model.y, weight)


def family_sizes(kernels: Sequence[Kernel], families: Sequence[str]) -> Array:
    """(kernels, three for each family): what a family's three coefficients are multiplied by."""
    phi = np.zeros((len(kernels), 3 * len(families)))
    for row, kernel in zip(phi, kernels, strict=True):
        place = 3 * families.index(kernel.family)
        row[place : place + 3] = family_size(kernel)
    return phi


def family_costs(families: Sequence[str], coefficients: Array) -> tuple[FamilyCost, ...]:
    """The three coefficients of each family, in ms."""
    of_family = coefficients.reshape(-1, 3)
    return tuple(FamilyCost(name, *map(rounded, row)) for name, row in zip(families, of_family, strict=True))


def non_negative_fit(x: Array, y: Array, weight: Array) -> Array:
    """Non-negative least squares of weighted rows."""
    scale = np.maximum(np.linalg.norm(x * weight[:, None], axis=0), 1e-300)
    return np.asarray(nnls(x * weight[:, None] / scale, y * weight)[0] / scale)


def rounded(value: float) -> float:
    """Seven digits: more would be noise, and a table holds many of them."""
    return float(f"{value:.7g}")


def make_prior(model: Model, setting: ChainSetting) -> Prior:
    """What is believed before the fit, with chains taken as the setting says."""
    in_chains = np.where(model.is_network, 1.0, setting.share)
    taken = dataclasses.replace(
        model, counts=model.counts * in_chains[:, None], y=model.measured + setting.cold * model.lacking
    )
    return fit_family(taken, setting.noise)


def fit_family(model: Model, chain: float) -> Prior:
    """The family model's fit to all rows."""
    family_cost = _family_costs(model, chain)
    base, w = float(family_cost[0]), family_cost[1:]
    prices = np.maximum(model.phi @ w, SMALLEST_PRICE)
    base_sd = max(BASE_SHARE * base, 0.01 * float(model.measured.min()))
    return Prior(model, chain, family_cost, np.concatenate([[base_sd], FAMILY_SHARE * w]), prices)


def relative_noise(model: Model, rel: float, chain: float) -> Array:
    """Standard deviation of each row's noise."""
    return np.where(model.is_network, rel, math.hypot(rel, chain)) * model.measured


def rows_of(model: Model, keep: NDArray[np.bool_]) -> Model:
    """The same regression with some of its rows."""
    rows = {name: getattr(model, name)[keep] for name in ("counts", "measured", "y", "lacking", "is_network")}
    return dataclasses.replace(model, **rows)
