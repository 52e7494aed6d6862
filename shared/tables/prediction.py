"""A table's prediction of a network's latency, and its error on networks that no fit used."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import InvalidValue

CONFIDENCE = 0.99
"""Default confidence of an upper bound: at most 1 % of networks lie above it.

The checks of a table have their own: `BOUND_CONFIDENCE` in lut_server.calibration.table_error.
"""
NORMAL_95 = 1.6448536269514722
"""Standard deviations from the mean to the 95 % bound, for which the spread of a fit is made."""
NORMAL_975 = 1.959963984540054


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


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of a network's latency.

    Attributes:
        guessed: kernels that were never measured and have the price of their family.
    """

    mean_ms: float
    sd_ms: float
    guessed: tuple[str, ...] = ()

    def upper_ms(self, confidence: float = CONFIDENCE) -> float:
        """The latency that the network stays below with that probability.

        Networks have wider tails than a normal distribution. Over 16 campaigns with 950 held-out
        networks the 99 % quantile was 1.74 times the 95 % quantile (normal: 1.41; Student's t with
        four degrees of freedom: 1.76).
        """
        if not 0.5 <= confidence < 1:
            raise InvalidValue("confidence", f"{confidence} is not within 0.5 and 1")
        return self.mean_ms + NORMAL_95 * student_4(confidence) / student_4(0.95) * self.sd_ms


def student_4(confidence: float) -> float:
    """Quantile of Student's t with four degrees of freedom (Shaw, 2006), from 0.5 to below 1."""
    alpha = math.sqrt(4 * confidence * (1 - confidence))
    return 2 * math.sqrt(max(math.cos(math.acos(min(alpha, 1.0)) / 3) / alpha - 1, 0.0))
