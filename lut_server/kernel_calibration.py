"""Kernel prices with their covariance, from every measured graph of a run: chains, ops side by side, whole networks.

    y_i = base + sum_k n_ik p_k + noise_i,      p_k = phi_k . w_family(k) + d_k,     p >= 0

* **Family model** phi . w: a family's kernels cost an overhead, so much per multiply-add and so much per element.
  w >= 0 by least squares on relative errors over all rows; its prior standard deviation is `FAMILY_SHARE` of it.
* **Deviations** d_k ~ N(0, (tau m_k)^2), m_k = phi_k . w: how far single kernels stray from their family.
* **Noise** is relative: rel for whole networks, and rel together with `chain` for chains, which are no networks and
  only hint at one: their few weights stay in the cache, so a kernel takes `share` of its price in them (0.7 for FBNet
  on one processor, 1 for small networks). tau, rel, chain and share, on a grid, are those under which each network is
  likeliest given all other rows (leave one out: Rasmussen and Williams, 2006, 5.4.2): it is networks that are asked
  for, and where chains mislead they are left out by that.
* **Mean**: the non-negative posterior mode, by an active set on the normal equations.
* **Covariance** of the parameters theta = [base, w, d], independent a priori, with standard deviations L: with
  W = X L / noise = P s Q', it is L (I - Q diag(s^2 / (1 + s^2)) Q') L, so V = Q diag(s / sqrt(1 + s^2)) is kept.
  It is the covariance without the limit at 0, which bounds the true one from above (Brascamp and Lieb, 1976).
* **Relative spread** of single networks from the residuals of networks that the whole fit did without, fold by fold.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lut_server.calibration import non_negative_least_squares, student_95
from shared.errors import InvalidValue
from shared.kernel import parse_kernel
from shared.kernel_prices import FamilyCost, KernelPrice, KernelPrices, family_size

Array = NDArray[np.float64]

FAMILY_SHARE = 0.3
BASE_SHARE = 0.5
TAU_GRID = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
REL_GRID = (0.003, 0.006, 0.01, 0.015, 0.025, 0.05)
CHAIN_GRID = (0.03, 0.1, 0.3, 3.0)
TYPICAL_REL = 0.015
CHAIN_SHARE_GRID = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
SMALLEST_PRICE = 1e-5
"""Of the mean latency: the least that a kernel is taken to cost before it was measured."""
FEWEST_NETWORKS = 5
FOLDS = 10
LEAST_SPREAD = 0.01
"""By how much one and the same network differs from loading to loading. However well a campaign's own networks fit, the
next time that somebody measures one it is another loading."""
SPREAD_PRIOR = 0.03
CONFORMAL_SHARE = 0.96
"""More than the 95 % of the bound: the residuals also chose the hyperparameters, which flatters them. With 60 networks
one may stray, or the bound of all would be as wide as one network out of the ordinary makes it (35 % instead of 2)."""
UNMEASURED_SHARE = 0.5
"""Standard deviation of a never-measured kernel's price around its family's, at least."""
_Z95 = 1.6448536269514722


@dataclass(frozen=True)
class MeasuredGraph:
    """One graph measured whole: a network of the fit, or a chain."""

    counts: Mapping[str, int]
    measured_ms: float
    is_network: bool


@dataclass(frozen=True)
class _Model:
    """The regression in units of the mean latency. Columns of `features`: base, three per family, one per kernel."""

    kernels: tuple[str, ...]
    families: tuple[str, ...]
    phi: Array
    counts: Array
    y: Array
    is_network: NDArray[np.bool_]
    unit: float

    @property
    def features(self) -> Array:
        return np.column_stack([np.ones(len(self.y)), self.counts @ self.phi, self.counts])


@dataclass(frozen=True)
class _Prior:
    """What the family model says, and how far the measurements lie from it.

    Attributes:
        chain: noise of chains beyond that of networks, as a share.
        family_cost: base, then three coefficients per family.
        fixed_sd: of these.
        prices: of the kernels, at least `SMALLEST_PRICE`.
    """

    model: _Model
    chain: float
    family_cost: Array
    fixed_sd: Array
    prices: Array

    @property
    def residual(self) -> Array:
        return np.asarray(self.model.y - self.family_cost[0] - self.model.counts @ self.prices)


def fit_kernel_prices(graphs: Sequence[MeasuredGraph]) -> KernelPrices | None:
    """Fit prices to measured graphs; None where there are too few networks among them to say how good they are.

    Raises:
        InvalidValue: a latency is not a positive time.
    """
    graphs = [one for one in graphs if one.counts]
    if sum(one.is_network for one in graphs) < FEWEST_NETWORKS:
        return None
    every = _model(graphs)
    settings = [(1.0, CHAIN_GRID[-1]), *itertools.product(CHAIN_SHARE_GRID, CHAIN_GRID[:-1])]
    prior, tau, noise = max((_likeliest(_prior(every, *setting)) for setting in settings), key=_score)[1:]
    model, prices = prior.model, prior.prices
    sd = np.concatenate([prior.fixed_sd, tau * prices])
    scaled = model.features * sd / noise[:, None]
    _, s, vt = np.linalg.svd(scaled, full_matrices=False)
    known = vt.T * (s / np.sqrt(1 + s**2))
    mode_base, mode_w, mode_prices = _non_negative_mode(model, prior.family_cost, prices, sd, noise)
    spread = _relative_spread(prior, tau, noise)
    return KernelPrices(
        base_ms=_rounded(mode_base * model.unit),
        families=tuple(
            FamilyCost(name, *(_rounded(value * model.unit) for value in mode_w[3 * i : 3 * i + 3]))
            for i, name in enumerate(model.families)
        ),
        prices=tuple(
            KernelPrice(name, _rounded(price * model.unit))
            for name, price in zip(model.kernels, mode_prices, strict=True)
        ),
        prior_sd_ms=tuple(_rounded(value * model.unit) for value in sd),
        known=tuple(tuple(_rounded(value) for value in row) for row in known),
        relative_spread=spread,
        unmeasured_share=max(UNMEASURED_SHARE, tau),
    )


def _model(graphs: Sequence[MeasuredGraph]) -> _Model:
    y = np.array([one.measured_ms for one in graphs], dtype=float)
    if not (np.isfinite(y).all() and (y > 0).all()):
        raise InvalidValue("calibration", "a graph's latency is not a positive time")
    unit = float(np.exp(np.mean(np.log(y))))
    kernels = tuple(sorted({kernel for one in graphs for kernel in one.counts}))
    parsed = [parse_kernel(kernel) for kernel in kernels]
    families = tuple(sorted({kernel.family for kernel in parsed}))
    phi = np.zeros((len(kernels), 3 * len(families)))
    for row, kernel in zip(phi, parsed, strict=True):
        place = 3 * families.index(kernel.family)
        row[place : place + 3] = family_size(kernel)
    counts = np.array([[one.counts.get(kernel, 0) for kernel in kernels] for one in graphs], dtype=float)
    return _Model(kernels, families, phi, counts, y / unit, np.array([one.is_network for one in graphs]), unit)


def _family_costs(model: _Model, chain: float) -> Array:
    """Base and family coefficients by non-negative least squares on relative errors; networks count most."""
    x = np.column_stack([np.ones(len(model.y)), model.counts @ model.phi])
    weight = np.where(model.is_network, 1.0, TYPICAL_REL / math.hypot(TYPICAL_REL, chain)) / model.y
    scale = np.maximum(np.linalg.norm(x * weight[:, None], axis=0), 1e-300)
    found: Array = non_negative_least_squares(x * weight[:, None] / scale, model.y * weight) / scale
    return found


def _prior(model: _Model, chain_share: float, chain: float) -> _Prior:
    in_chains = np.where(model.is_network, 1.0, chain_share)
    return _fit_family(dataclasses.replace(model, counts=model.counts * in_chains[:, None]), chain)


def _fit_family(model: _Model, chain: float) -> _Prior:
    family_cost = _family_costs(model, chain)
    base, w = float(family_cost[0]), family_cost[1:]
    prices = np.maximum(model.phi @ w, SMALLEST_PRICE)
    base_sd = max(BASE_SHARE * base, 0.01 * float(model.y.min()))
    return _Prior(model, chain, family_cost, np.concatenate([[base_sd], FAMILY_SHARE * w]), prices)


def _noise(model: _Model, rel: float, chain: float) -> Array:
    return np.where(model.is_network, rel, math.hypot(rel, chain)) * model.y


def _score(found: tuple[float, _Prior, float, Array]) -> float:
    return found[0]


def _likeliest(prior: _Prior) -> tuple[float, _Prior, float, Array]:
    """(score, prior, tau, noise of each row): the log probability of each network given all others, at its largest."""
    model, residual = prior.model, prior.residual
    fixed = model.features[:, : len(prior.fixed_sd)] * prior.fixed_sd
    fixed_part, networks = fixed @ fixed.T, model.is_network
    deviations = model.counts * prior.prices
    deviation_part = deviations @ deviations.T
    best: tuple[float, float, Array] | None = None
    for tau, rel in itertools.product(TAU_GRID, REL_GRID):
        noise = _noise(model, rel, prior.chain)
        covariance = fixed_part + tau**2 * deviation_part + np.diag(noise**2)
        inverse = np.linalg.inv(covariance)
        own = np.diag(inverse)[networks]
        error = (inverse @ residual)[networks] / own
        score = 0.5 * float(np.sum(np.log(own) - error**2 * own))
        if best is None or score > best[0]:
            best = (score, tau, noise)
    assert best is not None
    return best[0], prior, best[1], best[2]


def _non_negative_mode(
    model: _Model, family_cost: Array, prices: Array, sd: Array, noise: Array
) -> tuple[float, Array, Array]:
    """Base, family coefficients and prices at the mode of the posterior truncated to non-negative values.

    In z = theta deviations over their standard deviation the mode is ridge regression; a price that comes out negative
    is held at 0 and the rest solved again, until none is negative. Price k is then 0 exactly: its deviation takes the
    place of what its family says of it.
    """
    base, w, families = float(family_cost[0]), family_cost[1:], model.phi.shape[1]
    # price = prices + phi dw + d, in units of sd: one row per kernel.
    change = np.column_stack([model.phi * sd[1 : 1 + families], np.diag(sd[1 + families :])])
    held = np.zeros(len(prices), dtype=bool)
    base_sd = sd[0]
    target = (model.y - base - model.counts @ prices) / noise
    design = np.column_stack([np.full(len(target), base_sd), model.counts @ change]) / noise[:, None]
    base_now, w_now, now = base, w, prices
    for _ in range(30):
        # A held price: a row that insists on price 0, far firmer than any measurement.
        firm = 1e4 / np.maximum(prices[held], SMALLEST_PRICE)
        rows = np.column_stack([np.zeros(held.sum()), change[held]]) * firm[:, None]
        a = np.vstack([design, rows])
        b = np.concatenate([target, -prices[held] * firm])
        z = a.T @ np.linalg.solve(a @ a.T + np.eye(len(a)), b)
        base_now, now = base + base_sd * float(z[0]), prices + change @ z[1:]
        w_now = w + sd[1 : 1 + families] * z[1 : 1 + families]
        negative = (now < 0) & ~held
        if not negative.any():
            break
        held |= negative
    return max(base_now, 0.0), np.maximum(w_now, 0.0), np.where(held, 0.0, np.maximum(now, 0.0))


def _relative_spread(prior: _Prior, tau: float, noise: Array) -> float:
    """Standard deviation of a single network around its prediction, as a share of the latency.

    `LEAST_SPREAD`, or the larger of two from the residuals e of networks that were held back: their root mean square
    beyond what the parameters' uncertainty explains (times t / z of Student's t), and what the conformal rule (Vovk et
    al., 2005) needs for a one-sided 95 % bound.
    """
    y, e, known = _held_back(prior, tau, noise)
    left_out = np.maximum(y - e, 0.1 * y)
    n = len(y)
    spread = _honest_spread(e / left_out, known / left_out**2) * student_95(n) / _Z95
    reach = np.where(e > 0, np.sqrt(np.maximum((e / _Z95) ** 2 - known, 0.0)) / left_out, 0.0)
    rank = min(math.ceil(CONFORMAL_SHARE * (n + 1)), n) - 1
    return max(spread, float(np.sort(reach)[rank]), LEAST_SPREAD)


def _held_back(prior: _Prior, tau: float, noise: Array) -> tuple[Array, Array, Array]:
    """(measured, residual, variance that the parameters explain) of each network, from a fit without its fold.

    The family model is fitted anew each time: with few networks it would have seen the one that it is to be judged by.
    """
    model = prior.model
    position = np.cumsum(model.is_network) - 1
    found = []
    for fold in range(FOLDS):
        out = model.is_network & (position % FOLDS == fold)
        if not out.any():
            continue
        rest = _fit_family(_rows(model, ~out), prior.chain)
        sd = np.concatenate([rest.fixed_sd, tau * rest.prices])
        scaled = model.features * sd
        residual = model.y - rest.family_cost[0] - model.counts @ rest.prices
        covariance = scaled[~out] @ scaled[~out].T + np.diag(noise[~out] ** 2)
        across = scaled[out] @ scaled[~out].T
        gain = np.linalg.solve(covariance, across.T).T
        error = residual[out] - gain @ residual[~out]
        known = np.sum(scaled[out] ** 2, axis=1) - np.sum(gain * across, axis=1)
        found.append((model.y[out], error, np.maximum(known, 0.0)))
    y, e, known = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return y, e, known


def _rows(model: _Model, keep: NDArray[np.bool_]) -> _Model:
    return dataclasses.replace(model, counts=model.counts[keep], y=model.y[keep], is_network=model.is_network[keep])


def _honest_spread(error: Array, known: Array) -> float:
    """The spread s at which the residuals are as large as expected: mean of error^2 / (known + s^2) is 1.

    Each residual is judged by its own variance: a network far from the others, of which little is known, must not hide
    that the others scatter. `SPREAD_PRIOR` counts as one more network. All are shares of the latency.
    """
    low, high = 0.0, max(SPREAD_PRIOR, float(np.abs(error).max())) * math.sqrt(len(error) + 1)
    for _ in range(60):
        middle = (low + high) / 2
        expected = float(np.sum(error**2 / (known + middle**2))) + (SPREAD_PRIOR / middle) ** 2
        low, high = (middle, high) if expected > len(error) + 1 else (low, middle)
    return high


def _rounded(value: float) -> float:
    """Seven digits: more would be noise, and a table holds many of them."""
    return float(f"{value:.7g}")
