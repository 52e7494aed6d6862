"""The error of predictions on networks that no fit used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldOutError:
    """Error on networks that no fit used, in percent; `bound_*`: of the one-sided 95 % bound."""

    networks: int
    mape_percent: float
    within_5_percent: float
    within_10_percent: float
    kendall_tau: float
    bound_coverage: float
    bound_half_width_percent: float


@dataclass(frozen=True)
class BaselineError:
    """Error on the held-out networks of a plain sum of costs, for comparison with calibration.

    latency = `base_ms` + sum of the costs of a network's ops. The base is the time of the fastest
    calibration network beyond its own ops, at least 0.

    Attributes:
        costs: "isolated" (each op timed alone) or "marginal" (a longer chain less a shorter chain).
    """

    costs: str
    base_ms: float
    networks: int
    mape_percent: float
    within_5_percent: float
    within_10_percent: float
    kendall_tau: float
