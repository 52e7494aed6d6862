"""Request and response of active selection: which networks to measure next in a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import InvalidValue
from shared.measurements.measurement import Measurement
from shared.measurements.plan import MOST_NETWORKS, Plan, Task

MOST_AT_ONCE = 100


@dataclass(frozen=True)
class ChoiceRequest:
    """Asks for the next calibration networks of a run.

    Attributes:
        most: largest number of calibration networks in the run.
        batch: largest number of networks in the response.
        bound_percent: half-width of the 95 % bound at which the run may stop.
        counted: no more kernels can be counted; the server must not ask for more.
        so_far: measurements of unfinished tasks, without their repeats.
    """

    plan: Plan
    most: int
    batch: int
    bound_percent: float
    counted: bool = False
    so_far: tuple[Measurement, ...] = ()

    def __post_init__(self) -> None:
        for name, value, largest in (("most", self.most, MOST_NETWORKS), ("batch", self.batch, MOST_AT_ONCE)):
            if not 1 <= value <= largest:
                raise InvalidValue(name, f"{value} is not within 1 to {largest}")
        if not (math.isfinite(self.bound_percent) and self.bound_percent >= 0):
            raise InvalidValue("bound_percent", f"{self.bound_percent} is not a share in percent")


@dataclass(frozen=True)
class Choice:
    """The server's response.

    Attributes:
        tasks: the next calibration networks, the most informative first; empty if none is left.
        enough: the bound is narrow enough.
        half_width_percent: of the bound, its 90 % quantile over the pool; None while `count` is
            set.
        by: "kernels" or "ops", the prices that predict.
        count: references of networks whose kernels the server needs first; then `tasks` is empty.
    """

    tasks: tuple[Task, ...] = ()
    enough: bool = False
    half_width_percent: float | None = None
    by: str = "kernels"
    count: tuple[str, ...] = ()
