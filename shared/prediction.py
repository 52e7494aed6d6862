"""What a table says of a network's latency, and how wrong it was on networks that no fit ever saw."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

from shared.errors import InvalidValue

CONFIDENCE = 0.99
"""Default confidence of an upper bound: at most one network in a hundred lies above it."""


@dataclass(frozen=True)
class HeldOutError:
    """Error on networks that no fit ever saw. Shares are in percent; `bound_*` speak of the one-sided 95 % bound."""

    networks: int
    mape_percent: float
    within_5_percent: float
    within_10_percent: float
    kendall_tau: float
    bound_coverage: float
    bound_half_width_percent: float


@dataclass(frozen=True)
class BaselineError:
    """Error, on the held-out networks, of a predictor that no whole network was fitted to: what calibration is worth.

    latency = `base_ms` + sum over a network's ops of their cost, where the base is what the fastest calibration network
    takes beyond its own ops, at least 0.

    Attributes:
        costs: "isolated" (each op timed alone) or "marginal" (a longer chain less a shorter one).
    """

    costs: str
    base_ms: float
    networks: int
    mape_percent: float
    within_5_percent: float
    within_10_percent: float
    kendall_tau: float


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of a network's latency.

    Attributes:
        guessed: kernels that were never measured, priced by what is known of their like.
    """

    mean_ms: float
    sd_ms: float
    guessed: tuple[str, ...] = ()

    def upper_ms(self, confidence: float = CONFIDENCE) -> float:
        """The latency that the network stays below with that probability."""
        if not 0.5 <= confidence < 1:
            raise InvalidValue("confidence", f"{confidence} is not within 0.5 and 1")
        return self.mean_ms + NormalDist().inv_cdf(confidence) * self.sd_ms
