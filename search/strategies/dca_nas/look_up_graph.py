"""DCA-NAS' look-up graph: from the budget of a device to the search-time budget that ends there.

During a search the resource is an expectation over soft alphas; afterwards it is that of one
derived network. The two differ. A few whole searches over the range of search-time budgets
therefore give points of the graph. It never falls (isotonic regression) and is linear between
points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from shared.errors import InvalidValue


@dataclass(frozen=True)
class LookUpGraph:
    """Points of whole searches.

    Attributes:
        search_time: budgets of the searches, rising, in the unit of their resource.
        derived_ms: latency bounds of the derived networks.
    """

    search_time: tuple[float, ...]
    derived_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.search_time) != len(self.derived_ms) or len(self.search_time) < 2:
            raise InvalidValue("look-up graph", "needs two searches or more, each with a derived bound")
        if list(self.search_time) != sorted(set(self.search_time)):
            raise InvalidValue("look-up graph", f"search-time budgets {self.search_time} do not rise")

    def __str__(self) -> str:
        pairs = zip(self.search_time, self.derived_ms, strict=True)
        return ", ".join(f"{given:.4g} came to {derived:.4g} ms" for given, derived in pairs)

    @property
    def rising_ms(self) -> npt.NDArray[np.float64]:
        """The non-decreasing series closest to the derived bounds."""
        return np.asarray(isotonic_regression(self.derived_ms).x)

    def search_time_budget(self, budget_ms: float) -> float:
        """The largest search-time budget whose network should meet a device's budget, clamped."""
        rising_ms = self.rising_ms
        last = int(np.searchsorted(rising_ms, budget_ms, side="right")) - 1
        if last < 0:
            return self.search_time[0]
        if last == len(rising_ms) - 1:
            return self.search_time[-1]
        share = (budget_ms - rising_ms[last]) / (rising_ms[last + 1] - rising_ms[last])
        return float(self.search_time[last] + share * (self.search_time[last + 1] - self.search_time[last]))
