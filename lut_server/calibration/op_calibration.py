"""Op prices with their covariance from marginal costs and whole networks: Bayesian linear
regression.

    y_i = x_i . theta + noise_i,   noise_i ~ N(0, (rel y_i)^2),   theta ~ N(m, S),   theta >= 0

x_i = [1, counts per op key], y_i the measured latency in ms, theta = [base, prices].

* **Prior.** A price's mean is its measured marginal cost (at least 0: noise can make a difference
  of two times negative), its variance (tau max(m_k, SMALL_SHARE median(m)))^2 plus that of the
  measurement itself: a marginal cost is right up to a factor, and an op that costs nothing alone
  may cost a little in a network. The base's mean is what the fastest network takes beyond its ops,
  and its standard deviation that network's whole time, so it says little. Data that cannot tell two
  prices apart (equal counts in every network) leave their ratio to the prior.
* **tau and rel** are averaged over their posterior on a grid: evidence (MacKay, 1992) times weak
  log-normal hyperpriors; with few networks the likeliest noise alone would be far too small.
  Written in whitened coordinates theta = m + L z, L = sqrt(S), one singular value decomposition per
  tau gives the evidence for every rel in closed form, and no matrix that could be singular is ever
  inverted.
* **theta >= 0.** The published means are the mode of the posterior truncated to non-negative
  values, by the active set method of Lawson and Hanson (1974) on the whitened least-squares form.
  The published covariance is that of the posterior *without* truncation: truncating a Gaussian to a
  convex set never increases its covariance (Brascamp and Lieb, 1976), so it bounds the true one
  from above, is positive semi-definite, and does not shrink because noise pushed a price to its
  limit.
* **Relative spread**: how far single networks lie from the additive model, from leave-one-out
  residuals, so that the fit's own freedom does not flatter it; see `_relative_spread`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import stdtrit

from shared.errors import InvalidValue
from shared.tables.table import NORMAL_95

Array = NDArray[np.float64]

SMALL_SHARE = 0.25
"""A price may stray from its marginal cost by tau times this share of the median cost, at least."""

TAU_GRID = np.geomspace(0.02, 4.0, 61)
REL_GRID = np.geomspace(0.002, 0.5, 141)
TAU_PRIOR = (math.log(0.3), 1.0)
REL_PRIOR = (math.log(0.03), 1.0)
"""Median and width of the log-normal hyperpriors: what is expected before anything was measured."""

SPREAD_PRIOR = 0.05
"""Relative spread that is assumed before anything was measured, with the weight of one network."""


@dataclass(frozen=True)
class Fit:
    """What the regression found, in ms; index 0 is the base, then the prices in the order of the
    marginal costs.

    Attributes:
        mean: (1 + ops,), at least 0 everywhere.
        covariance: (1 + ops, 1 + ops), symmetric, positive semi-definite.
        relative_spread: standard deviation of a single network around its prediction, as a share of
            the latency.
    """

    mean: Array
    covariance: Array
    relative_spread: float


@dataclass(frozen=True)
class _Prior:
    """Mean and standard deviation of theta; the latter as sqrt(fixed^2 + (tau scaled)^2)."""

    mean: Array
    fixed_sd: Array
    scaled_sd: Array

    def sd(self, tau: float) -> Array:
        return np.hypot(self.fixed_sd, tau * self.scaled_sd)


def fit_prices(counts: Array, latency_ms: Array, marginal_ms: Array, marginal_sd_ms: Array) -> Fit:
    """Fit base and prices to whole networks, with measured marginal costs as the prior.

    Args:
        counts: (networks, ops), how often each op occurs in each network.
        latency_ms: (networks,), measured, above 0.
        marginal_ms: (ops,), measured marginal costs; noise can make them negative.
        marginal_sd_ms: (ops,), standard deviation of these measurements.

    Raises:
        InvalidValue: no network, a latency that is not positive, or a number that is not finite.
    """
    _check(counts, latency_ms, marginal_ms, marginal_sd_ms)
    # In units of the mean latency every number is moderate, whatever the device.
    unit = float(np.exp(np.mean(np.log(latency_ms))))
    y = latency_ms / unit
    x = np.column_stack([np.ones(len(y)), counts])
    prior = _prior(counts, y, marginal_ms / unit, marginal_sd_ms / unit)
    tau, rel = _hyperparameters(x, y, prior)
    sd = prior.sd(tau)
    covariance = _posterior_covariance(x, rel * y, sd)
    mean = _non_negative_mode(x, y, rel * y, prior.mean, sd)
    spread = _relative_spread(x, y, rel, mean, sd, covariance)
    return Fit(mean * unit, covariance * unit**2, spread)


def _check(counts: Array, latency_ms: Array, marginal_ms: Array, marginal_sd_ms: Array) -> None:
    if len(latency_ms) == 0:
        raise InvalidValue("calibration", "needs at least one network measured whole")
    if not (np.isfinite(latency_ms).all() and (latency_ms > 0).all()):
        raise InvalidValue("calibration", "a network's latency is not a positive time")
    if not all(np.isfinite(values).all() for values in (counts, marginal_ms, marginal_sd_ms)):
        raise InvalidValue("calibration", "a marginal cost is not finite")


def _prior(counts: Array, y: Array, marginal: Array, marginal_sd: Array) -> _Prior:
    price = np.maximum(marginal, 0.0)
    positive = price[price > 0]
    fastest = int(np.argmin(y))
    # Without any positive marginal cost, the fastest network shared out over the ops of the largest
    # one.
    typical = float(np.median(positive)) if positive.size else float(y[fastest] / max(1.0, counts.sum(axis=1).max()))
    typical = max(typical, 1e-6 * float(y[fastest]))
    base = max(float(y[fastest] - counts[fastest] @ price), 0.0)
    return _Prior(
        mean=np.concatenate([[base], price]),
        fixed_sd=np.concatenate([[float(y[fastest])], np.maximum(marginal_sd, 0.0)]),
        scaled_sd=np.concatenate([[0.0], np.maximum(price, SMALL_SHARE * typical)]),
    )


def _hyperparameters(x: Array, y: Array, prior: _Prior) -> tuple[float, float]:
    """(tau, rel) from the posterior on the grid: geometric mean, root mean square."""
    residual = (y - x @ prior.mean) / y
    rel2 = REL_GRID[:, None] ** 2
    # x = q r serves every tau: only the small triangle is decomposed for each.
    q, r = np.linalg.qr(x / y[:, None])
    inside = q.T @ residual
    outside2 = float(np.sum((residual - q @ inside) ** 2))
    score = np.empty((len(TAU_GRID), len(REL_GRID)))
    for index, tau in enumerate(TAU_GRID):
        u, s, _ = np.linalg.svd(r * prior.sd(float(tau)), full_matrices=False)
        along = u.T @ inside
        across2 = outside2 + float(np.sum((inside - u @ along) ** 2))
        misfit = across2 / rel2[:, 0] + np.sum(along**2 / (rel2 + s**2), axis=1)
        log_det = len(y) * np.log(rel2[:, 0]) + np.sum(np.log1p(s**2 / rel2), axis=1)
        score[index] = -0.5 * (misfit + log_det) + _log_prior(REL_GRID, REL_PRIOR) + _log_prior(tau, TAU_PRIOR)
    weight = np.exp(score - score.max())
    weight /= weight.sum()
    tau = math.exp(float(weight.sum(axis=1) @ np.log(TAU_GRID)))
    return tau, math.sqrt(float(weight.sum(axis=0) @ REL_GRID**2))


def _log_prior(value: Array | float, prior: tuple[float, float]) -> Array:
    centre, width = prior
    return np.asarray(-0.5 * ((np.log(value) - centre) / width) ** 2)


def _posterior_covariance(x: Array, noise_sd: Array, sd: Array) -> Array:
    """L (I + W'W)^-1 L with W = X L / noise, by the singular values of W; exactly symmetric."""
    triangle = np.linalg.qr(x * sd / noise_sd[:, None], mode="r")  # same W'W, at most as many rows as parameters
    _, s, vt = np.linalg.svd(triangle, full_matrices=True)
    shrink = np.ones(len(sd))
    shrink[: len(s)] = 1 / np.sqrt(1 + s**2)
    root = shrink[:, None] * vt * sd  # (modes, parameters)
    covariance = root.T @ root
    return np.asarray((covariance + covariance.T) / 2)


def _non_negative_mode(x: Array, y: Array, noise_sd: Array, prior_mean: Array, sd: Array) -> Array:
    """argmin over theta >= 0 of |(y - X theta) / noise|^2 + |(theta - m) / sd|^2."""
    a = np.vstack([x * sd / noise_sd[:, None], np.eye(len(sd))])
    b = np.concatenate([y / noise_sd, prior_mean / sd])
    q, r = np.linalg.qr(a)  # |a z - b| and |r z - q'b| differ by a constant
    return np.asarray(nnls(r, q.T @ b)[0] * sd)


def _relative_spread(x: Array, y: Array, rel: float, mean: Array, sd: Array, covariance: Array) -> float:
    """Standard deviation of a single network around its prediction, as a share of the latency.

    The largest of three, from the leave-one-out residuals e_i (closed form, the prices at 0 held
    there):

    * the root mean square of e_i / prediction_i, less what the prices' own uncertainty explains,
      with `SPREAD_PRIOR` counted as one more network;
    * `rel`, the noise that the regression itself found: with few networks the first can vanish by
      chance;
    * what the conformal rule (Vovk et al., 2005) needs: the 95 % bound lies above the ceil(0.95 (n
      + 1))-th smallest of n residuals, or above all of them where n is too small.

    The first two are estimates, so they are multiplied by t_95 / z_95 of Student's t for as many
    degrees of freedom as there are networks less the effective number of parameters (the sum of the
    leverages).
    """
    free = mean > 0
    noise2 = (rel * y) ** 2
    leverage = np.zeros(len(y))
    if free.any():
        own = _posterior_covariance(x[:, free], rel * y, sd[free])
        leverage = np.einsum("ij,jk,ik->i", x[:, free], own, x[:, free]) / noise2
    predicted = np.maximum(x @ mean, 1e-12)
    error = (y - predicted) / np.maximum(1 - leverage, 0.05)
    left_out = np.maximum(y - error, 0.1 * predicted)
    known = np.einsum("ij,jk,ik->i", x, covariance, x)
    known = known / np.maximum(1 - known / noise2, 0.05)  # without the network itself the prices are known less
    excess = float(np.sum((error**2 - known) / left_out**2))
    n = len(y)
    estimated = max(rel, math.sqrt((SPREAD_PRIOR**2 + max(excess, 0.0)) / (n + 1)))
    freedom = max(1, math.floor(n + 1 - float(leverage.sum())))
    spread = estimated * float(stdtrit(freedom, 0.95)) / NORMAL_95
    rank = min(math.ceil(0.95 * (n + 1)), n) - 1
    reach = np.where(error > 0, np.sqrt(np.maximum((error / NORMAL_95) ** 2 - known, 0.0)) / left_out, 0.0)
    return max(spread, float(np.sort(reach)[rank]))
