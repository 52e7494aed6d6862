"""Prices of kernels that were measured one by one: what predicts networks that belong to no measured space.

    latency(network) = base + sum over kernels of count x price

A space's own fit knows its kernels as they occur together, and only together; that is best for its own networks. For
any other network each kernel has to be known by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from shared.errors import InvalidValue, MissingKernel
from shared.kernels.kernel import parse_kernel
from shared.tables.kernel_prices import FamilyCost, KernelPrices, family_size
from shared.tables.prediction import Prediction

FROM_FIT_SHARE = 0.3
"""Standard deviation of a price that a space's fit knows only together with others, as a share of it."""


@dataclass(frozen=True)
class SingleKernel:
    """Price of one kernel with its standard deviation."""

    kernel: str
    price_ms: float
    sd_ms: float


@dataclass(frozen=True)
class SingleKernels:
    """Prices of single kernels on a device.

    Attributes:
        base_ms: fixed cost of a network.
        prices: sorted by kernel.
        families: what kernels of a family cost by their size, for those that were not measured; sorted by name.
        relative_spread: standard deviation of a network around its sum of prices, as a share of it.
        unmeasured_share: standard deviation of a price that is guessed from its family, as a share of it.
        runs: that measured them.
    """

    base_ms: float
    prices: tuple[SingleKernel, ...]
    families: tuple[FamilyCost, ...]
    relative_spread: float
    unmeasured_share: float
    runs: tuple[str, ...]

    def __post_init__(self) -> None:
        numbers = [self.base_ms, self.relative_spread, self.unmeasured_share]
        numbers += [value for price in self.prices for value in (price.price_ms, price.sd_ms)]
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise InvalidValue("single_kernels", "holds a number that is negative or not finite")

    @cached_property
    def index(self) -> Mapping[str, SingleKernel]:
        """Price by kernel."""
        return {price.kernel: price for price in self.prices}

    @cached_property
    def family_index(self) -> Mapping[str, FamilyCost]:
        """Cost by family."""
        return {family.family: family for family in self.families}

    def predict(self, counts: Mapping[str, int], fit: KernelPrices | None = None, guess: bool = False) -> Prediction:
        """Latency of a network by how often each kernel occurs in it.

        Args:
            counts: by the kernel's string form.
            fit: the prices of a space, for kernels that were not measured by themselves.
            guess: take the family's cost for kernels that neither list has, and name them in the prediction.

        Raises:
            MissingKernel: a kernel has no price, and may not be guessed or is of a family that was never measured.
            InvalidValue: a text is not a kernel.
        """
        mean_ms, variance = self.base_ms, 0.0
        guessed, strangers = [], []
        for text, n in counts.items():
            found = self._price(text, fit)
            if found is None or (found[2] and not guess):
                strangers.append(text)
                continue
            price_ms, sd_ms, is_guess = found
            mean_ms += n * price_ms
            variance += (n * sd_ms) ** 2
            if is_guess:
                guessed.append(text)
        if strangers:
            raise MissingKernel(strangers)
        return Prediction(mean_ms, math.sqrt(variance + (self.relative_spread * mean_ms) ** 2), tuple(sorted(guessed)))

    def _price(self, text: str, fit: KernelPrices | None) -> tuple[float, float, bool] | None:
        """(price, standard deviation, whether it is guessed), from the best source that has it."""
        if text in self.index:
            return self.index[text].price_ms, self.index[text].sd_ms, False
        if fit is not None and text in fit.index:
            price_ms = fit.prices[fit.index[text]].price_ms
            return price_ms, FROM_FIT_SHARE * price_ms, False
        kernel = parse_kernel(text)
        family = self.family_index.get(kernel.family)
        if family is None and fit is not None and kernel.family in fit.family_index:
            family = fit.families[fit.family_index[kernel.family]]
        if family is None:
            return None
        size = family_size(kernel)
        costs = (family.overhead_ms, family.per_million_multiply_adds_ms, family.per_million_elements_ms)
        price_ms = sum(amount * cost for amount, cost in zip(size, costs, strict=True))
        return price_ms, self.unmeasured_share * price_ms, True
