"""What an agent and the server say to each other about which networks to measure next, in the middle of a run."""

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
        plan: of the run.
        most: calibration networks that the run may have in all.
        batch: networks to name at most.
        bound_percent: half-width of the 95 % bound that is narrow enough.
        counted: the kernels of those networks that could be counted are counted: do not ask for more.
        so_far: what is measured of tasks that are not done, without its repeats.
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
    """The server's answer.

    Attributes:
        tasks: the calibration networks that it would measure next, the most telling first; none left where empty.
        enough: the bound is narrow enough as it is.
        half_width_percent: of the bound, which nine of ten networks of the pool keep; None while kernels are to count.
        by: "kernels" or "ops", the prices that say so.
        count: references of networks whose kernels the server would know first; nothing is chosen meanwhile.
    """

    tasks: tuple[Task, ...] = ()
    enough: bool = False
    half_width_percent: float | None = None
    by: str = "kernels"
    count: tuple[str, ...] = ()
