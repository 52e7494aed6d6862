"""What a table says of a network's latency, and how wrong it was on networks that no fit ever saw."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import InvalidValue

CONFIDENCE = 0.99
"""Default confidence of an upper bound: at most one network in a hundred lies above it."""


NORMAL_95 = 1.6448536269514722
NORMAL_975 = 1.959963984540054
"""The 95 % bound lies so many standard deviations above the mean; that is what the spread of a fit is made for."""


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
        """The latency that the network stays below with that probability.

        Networks stray further than a normal distribution says: over 16 campaigns 99 % of 950 held-out networks lay
        within 1.74 times what 95 % of them did (normal: 1.41; Student's t with four degrees of freedom: 1.76).
        """
        if not 0.5 <= confidence < 1:
            raise InvalidValue("confidence", f"{confidence} is not within 0.5 and 1")
        return self.mean_ms + NORMAL_95 * student_4(confidence) / student_4(0.95) * self.sd_ms


def student_4(confidence: float) -> float:
    """Quantile of Student's t with four degrees of freedom, in closed form (Shaw, 2006); for 0.5 to below 1."""
    alpha = math.sqrt(4 * confidence * (1 - confidence))
    return 2 * math.sqrt(max(math.cos(math.acos(min(alpha, 1.0)) / 3) / alpha - 1, 0.0))
