"""Prices of the kernels that a runtime executes, with their covariance. They predict networks best.

    latency(network) = base + sum over kernels of count x price
    price(kernel)    = overhead + a x multiply-adds + b x elements + deviation   (a, b: of its family)

The parameters are [base, family coefficients, deviations]. They are independent in the prior
(`prior_sd_ms`). The measurements add a factor V, a row per parameter, a column per measured graph:

    variance(x) = sum of (prior_sd x)^2 - |V' (prior_sd x)|^2

A kernel that was never measured has no deviation. Its price is that of its family, with a wide
bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from shared.errors import InvalidValue, MissingKernel
from shared.kernels.kernel import Kernel, parse_kernel
from shared.tables.held_out_error import HeldOutError

MILLION = 1e6
Moments = tuple[float, float, tuple[str, ...]]
"""The fields of a `Prediction` (shared.tables.table)."""


@dataclass(frozen=True)
class FamilyCost:
    """The cost of a family's kernels as a function of their size."""

    family: str
    overhead_ms: float
    per_million_multiply_adds_ms: float
    per_million_elements_ms: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.costs)):
            raise InvalidValue("kernels.families", "holds a number that is not finite")

    @property
    def costs(self) -> tuple[float, float, float]:
        """Overhead, then the costs of size, in ms."""
        return self.overhead_ms, self.per_million_multiply_adds_ms, self.per_million_elements_ms

    def price_ms(self, kernel: Kernel) -> float:
        """Price of a kernel of this size."""
        return sum(size * cost for size, cost in zip(family_size(kernel), self.costs, strict=True))


@dataclass(frozen=True)
class KernelPrice:
    """Posterior price of a kernel."""

    kernel: str
    price_ms: float


@dataclass(frozen=True)
class KernelPrices:
    """A device's kernel prices.

    Attributes:
        base_ms: fixed cost of a network.
        families: cost models, sorted by name.
        prices: sorted by kernel.
        prior_sd_ms: of each parameter: base, three of each family, the deviation of each kernel.
        known: the factor V, a row for each parameter.
        relative_spread: standard deviation of a network around its prediction, as a share of it.
        unmeasured_share: standard deviation of an unmeasured kernel's price, as a share of it.
        held_out: error on networks that no fit used.
    """

    base_ms: float
    families: tuple[FamilyCost, ...]
    prices: tuple[KernelPrice, ...]
    prior_sd_ms: tuple[float, ...]
    known: tuple[tuple[float, ...], ...]
    relative_spread: float
    unmeasured_share: float
    held_out: HeldOutError | None = None

    def __post_init__(self) -> None:
        parameters = 1 + 3 * len(self.families) + len(self.prices)
        if len(self.prior_sd_ms) != parameters or len(self.known) != parameters:
            raise InvalidValue("kernels", f"{parameters} parameters need as many deviations and rows of the factor")
        if len({len(row) for row in self.known}) > 1:
            raise InvalidValue("kernels.known", "its rows differ in length")
        spreads = [self.relative_spread, self.unmeasured_share, *self.prior_sd_ms]
        numbers = [self.base_ms, *(price.price_ms for price in self.prices), *spreads]
        numbers += [value for row in self.known for value in row]
        if not all(map(math.isfinite, numbers)) or min(spreads) < 0:
            raise InvalidValue("kernels", "holds a number that is not finite, or a negative deviation")
        if len(self.index) < len(self.prices) or len(self.family_index) < len(self.families):
            raise InvalidValue("kernels", "names a kernel or a family twice")

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Position of each kernel in `prices`."""
        return {price.kernel: position for position, price in enumerate(self.prices)}

    @cached_property
    def family_index(self) -> Mapping[str, int]:
        """Position of each family in `families`."""
        return {family.family: position for position, family in enumerate(self.families)}

    def unmeasured(self, counts: Mapping[str, int]) -> list[str]:
        """Kernels of a network that have no price of their own."""
        return sorted(kernel for kernel in counts if kernel not in self.index)

    def predict(self, counts: Mapping[str, int], guess: bool = False) -> Moments:
        """Mean and standard deviation of a network's latency, ms, and the kernels that were guessed.

        Args:
            counts: how often each kernel occurs, by its string form.
            guess: take the family's cost for unmeasured kernels, and name them in the prediction.

        Raises:
            MissingKernel: a kernel has no price, and no guess is allowed or its family is
                unmeasured.
            InvalidValue: a text is not a kernel.
        """
        missing = self.unmeasured(counts)
        unpriced = [kernel for kernel in missing if not guess or parse_kernel(kernel).family not in self.family_index]
        if unpriced:
            raise MissingKernel(unpriced)
        mean_ms, own_variance = self.base_ms, 0.0
        for text, n in counts.items():
            if text in self.index:
                mean_ms += n * self.prices[self.index[text]].price_ms
            else:
                price_ms = self.family_price_ms(text)
                mean_ms += n * price_ms
                own_variance += (self.unmeasured_share * n * price_ms) ** 2
        variance = own_variance + self._variance(self.features(counts))
        return mean_ms, math.sqrt(variance + (self.relative_spread * mean_ms) ** 2), tuple(missing)

    def features(self, counts: Mapping[str, int]) -> dict[int, float]:
        """The factor of each parameter in a network's latency, by its position in `prior_sd_ms`."""
        features = {0: 1.0}
        for text, n in counts.items():
            kernel = parse_kernel(text)
            family = self.family_index[kernel.family]
            for place, value in enumerate(family_size(kernel)):
                if value:
                    key = 1 + 3 * family + place
                    features[key] = features.get(key, 0.0) + n * value
            if text in self.index:
                features[1 + 3 * len(self.families) + self.index[text]] = float(n)
        return features

    def family_price_ms(self, text: str) -> float:
        """Price of a kernel by its family and its size alone."""
        kernel = parse_kernel(text)
        return self.families[self.family_index[kernel.family]].price_ms(kernel)

    def _variance(self, features: Mapping[int, float]) -> float:
        scaled = {key: self.prior_sd_ms[key] * value for key, value in features.items()}
        total = sum(value * value for value in scaled.values())
        rows = [(value, self.known[key]) for key, value in scaled.items() if value]
        columns = len(self.known[0])
        explained = sum(sum(value * row[column] for value, row in rows) ** 2 for column in range(columns))
        return max(total - explained, 0.0)


def family_size(kernel: Kernel) -> tuple[float, float, float]:
    """The factors of a family's three coefficients: 1, million multiply-adds, million elements."""
    return 1.0, kernel.multiply_adds() / MILLION, kernel.elements() / MILLION
