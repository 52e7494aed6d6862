"""What an agent says of its device while it works there: how hot it is, what holds it back, how far a campaign is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import InvalidValue

HIGHEST_TEMPERATURE_C = 80.0
"""Above it most boards slow down, whether they say so or not."""
_COLDEST_C, _HOTTEST_C = -100.0, 250.0
_MOST = 20
_LONGEST = 200


@dataclass(frozen=True)
class CampaignProgress:
    """How many of a campaign's tasks are measured, for which runs and spaces."""

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
class DeviceStatus:
    """A device at one moment.

    Attributes:
        temperature_c: of the hottest sensor; None where there is none that can be read.
        throttling: what holds the device back right now; None where it does not tell.
        campaign: what is being measured; None: nothing, or a single network.
    """

    temperature_c: float | None = None
    throttling: tuple[str, ...] | None = None
    campaign: CampaignProgress | None = None

    def __post_init__(self) -> None:
        if self.temperature_c is not None and not (
            math.isfinite(self.temperature_c) and _COLDEST_C <= self.temperature_c <= _HOTTEST_C
        ):
            raise InvalidValue("status.temperature_c", f"{self.temperature_c} is no temperature in degrees Celsius")
        _check_texts("status.throttling", self.throttling or ())

    def problems(self) -> tuple[str, ...]:
        """What is wrong with measuring right now, for people."""
        held = (f"held back ({', '.join(self.throttling)})",) if self.throttling else ()
        hot = self.temperature_c is not None and self.temperature_c >= HIGHEST_TEMPERATURE_C
        return held + ((f"{self.temperature_c:.0f} degrees Celsius",) if hot else ())


def _check_texts(field: str, texts: tuple[str, ...]) -> None:
    if len(texts) > _MOST or any(not 1 <= len(text) <= _LONGEST or "\0" in text for text in texts):
        raise InvalidValue(field, f"is not up to {_MOST} texts of 1 to {_LONGEST} characters")
