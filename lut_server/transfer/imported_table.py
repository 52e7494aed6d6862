"""Makes a latency table of published numbers, marked as imported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidValue
from shared.measurements.measurement import LONGEST_MS
from shared.runtime import check_device_name
from shared.spaces.op_key import OpKey
from shared.tables.table import NORMAL_975, LatencyTable, OpPrice
from shared.tables.table_source import IMPORTER_VERSION, NO_CANARY, TableSource

ASSUMED_SPREAD = 0.1
"""Relative spread of single networks around a table of unknown additive error. The worst of the
additive fits to 14 columns of measured NAS-Bench-201 latencies have about this spread."""
NOT_MEASURED = "how additive this device is was not measured: the spread of single networks is assumed"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """The table's device, and its images per inference."""

    device: str
    batch: int = 1

    def __post_init__(self) -> None:
        check_device_name(self.device)


def price_of(key: OpKey, price_ms: float, sd_ms: float) -> OpPrice:
    """The price of an op; its `marginal_*` repeat price and interval: no op was measured alone."""
    half_ms = NORMAL_975 * sd_ms
    return OpPrice(str(key), price_ms, sd_ms, price_ms, price_ms - half_ms, price_ms + half_ms)


def make_table(
    target: Target,
    source: TableSource,
    space: str,
    base_ms: float,
    prices: Sequence[OpPrice],
    covariance: Array | None = None,
    relative_spread: float = ASSUMED_SPREAD,
) -> LatencyTable:
    """A table of prices. Without a covariance they are independent and the base is exact.

    Raises:
        InvalidValue: a number is not finite.
    """
    if covariance is None:
        covariance = np.diag([0.0, *(price.sd_ms**2 for price in prices)])
    return LatencyTable(
        device=target.device,
        runtime=source.runtime(target.batch),
        space=space,
        canary=NO_CANARY,
        canary_nominal_ms=1.0,
        agent_version=IMPORTER_VERSION,
        base_ms=base_ms,
        prices=tuple(prices),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        relative_spread=relative_spread,
        held_out=None,
        networks=(),
        runs=(),
        source=source,
    )


def read_ms(text: str, where: str, *, least: float = 0.0, unit_ms: float = 1.0) -> float:
    """A time in ms above 0, or of at least `least` if that is negative; `unit_ms`: of the text.

    Raises:
        InvalidValue: the text is no such time; the message begins with `where`.
    """
    try:
        value = float(text) * unit_ms
    except ValueError:
        raise InvalidValue(where, f"'{text[:40]}' is not a number" if text.strip() else "the time is missing") from None
    if not least <= value <= LONGEST_MS or (least == 0 and value == 0):
        unit = "; --unit names another unit" if math.isfinite(value) and value > LONGEST_MS else ""
        raise InvalidValue(
            where, f"{text[:40]} is not a time in ms (above {least:g}, up to {LONGEST_MS:g}, finite){unit}"
        )
    return value
