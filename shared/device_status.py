"""The state of a device while its agent works: temperature, throttling, progress of a campaign."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import InvalidValue

HIGHEST_TEMPERATURE_C = 80.0
"""Most boards slow down above it, with or without a notice."""
LARGEST_SHIFT, LARGEST_SPREAD = 0.1, 0.05
MOST_CHANGE = 100.0
"""Of a logarithm: a state beyond it is none that a machine has."""
_COLDEST_C, _HOTTEST_C = -100.0, 250.0
_MOST = 20
_LONGEST = 200


@dataclass(frozen=True)
class CampaignProgress:
    """The number of a campaign's tasks that are measured, for which runs and spaces."""

    runs: tuple[str, ...]
    spaces: tuple[str, ...]
    measured: int
    tasks: int

    def __post_init__(self) -> None:
        _check_texts("status.campaign.runs", self.runs)
        _check_texts("status.campaign.spaces", self.spaces)
        if not 0 <= self.measured <= self.tasks:
            raise InvalidValue("status.campaign.measured", f"{self.measured} of {self.tasks} tasks cannot be")


@dataclass(frozen=True)
class TableCheck:
    """Networks of a table, timed again later.

    Attributes:
        table: its hash.
        at: ISO 8601, UTC.
        shift: mean logarithm of time now over time in the table, beside the canary.
        spread: standard deviation of that logarithm.
    """

    table: str
    at: str
    networks: int
    shift: float
    spread: float

    def __post_init__(self) -> None:
        _check_texts("status.check", (self.table, self.at))
        if not (abs(self.shift) <= MOST_CHANGE and 0 <= self.spread <= MOST_CHANGE):
            raise InvalidValue("status.check", f"no machine changes by {self.shift:g} or spreads by {self.spread:g}")

    @property
    def holds(self) -> bool:
        """Whether predictions of the table are still right, up to a state that is common to all."""
        return abs(self.shift) <= LARGEST_SHIFT and self.spread <= LARGEST_SPREAD

    def describe(self) -> str:
        """The check in a line, for people."""
        change = f"{100 * math.expm1(self.shift):+.1f} % beside the canary, spread {100 * self.spread:.1f} %"
        says = "holds" if self.holds else "no longer holds: measure it anew (profile --new)"
        return f"table {self.table[:12]} {says}; {self.networks} of its networks, timed again: {change}"


@dataclass(frozen=True)
class DeviceStatus:
    """The state of a device.

    Attributes:
        check: the last check of a table.
        temperature_c: of the hottest sensor; None without a readable sensor.
        throttling: causes of throttling at the moment; None if the device does not tell.
        campaign: None while nothing, or a single network, is measured.
    """

    temperature_c: float | None = None
    throttling: tuple[str, ...] | None = None
    campaign: CampaignProgress | None = None
    check: TableCheck | None = None

    def __post_init__(self) -> None:
        if self.temperature_c is not None and not (
            math.isfinite(self.temperature_c) and _COLDEST_C <= self.temperature_c <= _HOTTEST_C
        ):
            raise InvalidValue("status.temperature_c", f"{self.temperature_c} is no temperature in degrees Celsius")
        _check_texts("status.throttling", self.throttling or ())

    def problems(self) -> tuple[str, ...]:
        """Reasons against a measurement at the moment, for people."""
        held = (f"held back ({', '.join(self.throttling)})",) if self.throttling else ()
        hot = self.temperature_c is not None and self.temperature_c >= HIGHEST_TEMPERATURE_C
        stale = (self.check.describe(),) if self.check is not None and not self.check.holds else ()
        return held + ((f"{self.temperature_c:.0f} degrees Celsius",) if hot else ()) + stale


def _check_texts(field: str, texts: tuple[str, ...]) -> None:
    if len(texts) > _MOST or any(not 1 <= len(text) <= _LONGEST or "\0" in text for text in texts):
        raise InvalidValue(field, f"is not up to {_MOST} texts of 1 to {_LONGEST} characters")
