"""Prices of single kernels, which predict networks outside of measured spaces.

    latency(network) = base + sum over kernels of count x price

The fit of a space knows its kernels only as they occur together. That is best for networks of the
space. Any other network needs a price for each single kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from shared.errors import InvalidValue, MissingKernel
from shared.kernels.kernel import parse_kernel
from shared.tables.kernel_prices import FamilyCost, KernelPrices, Moments

FROM_FIT_SHARE = 0.3
"""Standard deviation of a price that comes from the fit of a space, as a share of it."""


@dataclass(frozen=True)
class SingleKernel:
    """Price of a kernel with its standard deviation."""

    kernel: str
    price_ms: float
    sd_ms: float


@dataclass(frozen=True)
class SingleKernels:
    """Prices of single kernels on a device.

    Attributes:
        base_ms: fixed cost of a network.
        prices: sorted by kernel.
        families: cost models for kernels that were not measured, sorted by name.
        relative_spread: standard deviation of a network around its sum of prices, as a share of it.
        unmeasured_share: standard deviation of an unmeasured kernel's price, as a share of it.
        runs: ids of the runs that measured the kernels.
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
        if len(self.index) < len(self.prices):
            raise InvalidValue("single_kernels", "names a kernel twice")

    @cached_property
    def index(self) -> Mapping[str, SingleKernel]:
        return {price.kernel: price for price in self.prices}

    @cached_property
    def family_index(self) -> Mapping[str, FamilyCost]:
        return {family.family: family for family in self.families}

    def predict(self, counts: Mapping[str, int], fit: KernelPrices | None = None, guess: bool = False) -> Moments:
        """Mean and standard deviation of a network's latency, ms, and the kernels that were guessed.

        Args:
            counts: how often each kernel occurs, by its string form.
            fit: the prices of a space, for kernels that were not measured by themselves.
            guess: take the family's cost for unmeasured kernels, and name them in the prediction.

        Raises:
            MissingKernel: a kernel has no price, and no guess is allowed or its family is
                unmeasured.
            InvalidValue: a text is not a kernel.
        """
        mean_ms, variance = self.base_ms, 0.0
        guessed, unpriced = [], []
        for text, n in counts.items():
            found = self._find_price(text, fit)
            if found is None or (found[2] and not guess):
                unpriced.append(text)
                continue
            price_ms, sd_ms, is_guess = found
            mean_ms += n * price_ms
            variance += (n * sd_ms) ** 2
            if is_guess:
                guessed.append(text)
        if unpriced:
            raise MissingKernel(unpriced)
        return mean_ms, math.sqrt(variance + (self.relative_spread * mean_ms) ** 2), tuple(sorted(guessed))

    def _find_price(self, text: str, fit: KernelPrices | None) -> tuple[float, float, bool] | None:
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
        price_ms = family.price_ms(kernel)
        return price_ms, self.unmeasured_share * price_ms, True
