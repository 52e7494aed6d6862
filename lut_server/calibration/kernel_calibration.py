"""Kernel prices with their covariance, from every measured graph of a run: chains, ops side by
side, whole networks.

    y_i = base + sum_k n_ik p_k + noise_i,      p_k = phi_k . w_family(k) + d_k,     p >= 0

* **Family model** phi . w: a family's kernels cost an overhead, so much per multiply-add and so
  much per element. w >= 0 by least squares on relative errors over all rows; its prior standard
  deviation is `FAMILY_SHARE` of it.
* **Deviations** d_k ~ N(0, (tau m_k)^2), m_k = phi_k . w: how far single kernels stray from their
  family.
* **Noise** is relative: rel for whole networks, and rel together with `noise` for chains, which are
  no networks: their few weights stay in the cache. So a kernel takes `share` of its price in them,
  and they lack what `cold` weights cost (`lut_server.calibration.kernel_model`). tau, rel and these
  three, on a grid, are those under which each network is likeliest given all other rows (leave one
  out: Rasmussen and Williams, 2006, 5.4.2): it is networks that are asked for, and where chains
  mislead they are left out by that.
* **Mean**: the non-negative posterior mode, by an active set on the normal equations.
* **Covariance** of the parameters theta = [base, w, d], independent a priori, with standard
  deviations L: with W = X L / noise = P s Q', it is L (I - Q diag(s^2 / (1 + s^2)) Q') L, so V = Q
  diag(s / sqrt(1 + s^2)) is kept. It is the covariance without the limit at 0, which bounds the
  true one from above (Brascamp and Lieb, 1976).
* **Relative spread** of single networks from the residuals of networks that the whole fit did
  without, fold by fold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from lut_server.calibration.kernel_model import (
    SMALLEST_PRICE,
    Array,
    ChainSetting,
    MeasuredGraph,
    Model,
    Prior,
    family_costs,
    fit_family,
    make_model,
    make_prior,
    relative_noise,
    rounded,
    rows_of,
)
from shared.tables.kernel_prices import KernelPrice, KernelPrices
from shared.tables.table import NORMAL_95

TAU_GRID = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
REL_GRID = (0.003, 0.006, 0.01, 0.015, 0.025, 0.05)
CHAIN_GRID = (0.03, 0.1, 0.3)
USUAL_CHAIN = 0.1
CHAIN_SHARE_GRID = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
COLD_GRID = (0.0, 0.1, 0.2, 0.3, 0.4)
NO_CHAINS = ChainSetting(1.0, 3.0, 0.0)
"""So noisy that chains say nothing."""
FEWEST_NETWORKS = 5
FOLDS = 10
LEAST_SPREAD = 0.01
"""How far a network's latency differs between two loadings, however well a campaign fits."""
SPREAD_PRIOR = 0.03
CONFORMAL_SHARE = 0.96
"""More than the bound's 95 %: the residuals also chose the hyperparameters. Of 60 networks a single
outlier may stray; else it would widen the bound of all (35 % instead of 2)."""
EXTREME_SHARE = 0.951
"""Where some networks are extreme by choice: a single of 40 may stray as well."""
UNMEASURED_SHARE = 0.5
"""Standard deviation of a never-measured kernel's price around its family's, at least."""


def fit_kernel_prices(graphs: Sequence[MeasuredGraph], conformal_share: float = CONFORMAL_SHARE) -> KernelPrices | None:
    """Fit prices to measured graphs; None where there are too few networks among them to say how
    good they are.

    Args:
        conformal_share: of the networks, within whose residuals a 95 % bound has to reach.

    Raises:
        InvalidValue: a latency is not a positive time.
    """
    graphs = [graph for graph in graphs if graph.counts]
    if sum(graph.is_network for graph in graphs) < FEWEST_NETWORKS:
        return None
    prior, tau, noise = _likeliest_of_all(make_model(graphs))
    model, prices = prior.model, prior.prices
    sd = np.concatenate([prior.fixed_sd, tau * prices])
    scaled = model.features * sd / noise[:, None]
    _, s, vt = np.linalg.svd(scaled, full_matrices=False)
    known = vt.T * (s / np.sqrt(1 + s**2))
    mode_base, mode_w, mode_prices = _non_negative_mode(model, prior.family_cost, prices, sd, noise)
    spread = _relative_spread(prior, tau, noise, conformal_share)
    return KernelPrices(
        base_ms=rounded(mode_base * model.unit),
        families=family_costs(model.families, mode_w * model.unit),
        prices=tuple(
            KernelPrice(name, rounded(price * model.unit))
            for name, price in zip(model.kernels, mode_prices, strict=True)
        ),
        prior_sd_ms=tuple(rounded(value * model.unit) for value in sd),
        known=tuple(tuple(rounded(value) for value in row) for row in known),
        relative_spread=spread,
        unmeasured_share=max(UNMEASURED_SHARE, tau),
    )


def _likeliest_of_all(model: Model) -> tuple[Prior, float, Array]:
    """The likeliest setting: first share and cold together, then share and noise."""
    coarse = [ChainSetting(share, USUAL_CHAIN, cold) for share in CHAIN_SHARE_GRID for cold in COLD_GRID]
    cold = max((_likeliest(make_prior(model, setting))[0], setting.cold) for setting in coarse)[1]
    fine = [ChainSetting(share, noise, cold) for share in CHAIN_SHARE_GRID for noise in CHAIN_GRID]
    found = [_likeliest(make_prior(model, setting)) for setting in (NO_CHAINS, *fine)]
    return max(found, key=lambda likeliest: likeliest[0])[1:]


def _likeliest(prior: Prior) -> tuple[float, Prior, float, Array]:
    """(score, prior, tau, noise per row) at the largest leave-one-out probability of networks."""
    model, residual = prior.model, prior.residual
    fixed = model.features[:, : len(prior.fixed_sd)] * prior.fixed_sd
    fixed_part, networks = fixed @ fixed.T, model.is_network
    deviations = model.counts * prior.prices
    deviation_part = deviations @ deviations.T
    best: tuple[float, float, Array] | None = None
    for tau, rel in itertools.product(TAU_GRID, REL_GRID):
        noise = relative_noise(model, rel, prior.chain)
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
    model: Model, family_cost: Array, prices: Array, sd: Array, noise: Array
) -> tuple[float, Array, Array]:
    """Base, family coefficients and prices at the mode of the posterior truncated to non-negative
    values.

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


def _relative_spread(prior: Prior, tau: float, noise: Array, conformal_share: float) -> float:
    """Standard deviation of a single network around its prediction, as a share of the latency.

    `LEAST_SPREAD`, or the larger of two from the residuals e of networks that were held back: their
    root mean square beyond what the parameters' uncertainty explains (times t / z of Student's t),
    and what the conformal rule (Vovk et al., 2005) needs for a one-sided 95 % bound.
    """
    y, e, known = _held_back(prior, tau, noise)
    left_out = np.maximum(y - e, 0.1 * y)
    n = len(y)
    spread = _honest_spread(e / left_out, known / left_out**2) * float(stdtrit(n, 0.95)) / NORMAL_95
    reach = np.where(e > 0, np.sqrt(np.maximum((e / NORMAL_95) ** 2 - known, 0.0)) / left_out, 0.0)
    rank = min(math.ceil(conformal_share * (n + 1)), n) - 1
    return max(spread, float(np.sort(reach)[rank]), LEAST_SPREAD)


def _held_back(prior: Prior, tau: float, noise: Array) -> tuple[Array, Array, Array]:
    """(measured, residual, variance that the parameters explain) of each network, from a fit
    without its fold.

    The family model is fitted anew each time: with few networks it would have seen the one that it
    is to be judged by.
    """
    model = prior.model
    position = np.cumsum(model.is_network) - 1
    found = []
    for fold in range(FOLDS):
        out = model.is_network & (position % FOLDS == fold)
        if not out.any():
            continue
        rest = fit_family(rows_of(model, ~out), prior.chain)
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


def _honest_spread(error: Array, known: Array) -> float:
    """The spread s at which the residuals are as large as expected: mean of error^2 / (known + s^2)
    is 1.

    Each residual is judged by its own variance: a network far from the others, of which little is
    known, must not hide that the others scatter. `SPREAD_PRIOR` counts as one more network. All are
    shares of the latency.
    """
    low, high = 0.0, max(SPREAD_PRIOR, float(np.abs(error).max())) * math.sqrt(len(error) + 1)
    for _ in range(60):
        middle = (low + high) / 2
        expected = float(np.sum(error**2 / (known + middle**2))) + (SPREAD_PRIOR / middle) ** 2
        low, high = (middle, high) if expected > len(error) + 1 else (low, middle)
    return high
