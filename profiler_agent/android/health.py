"""How warm and how full a phone is, from Android's services through adb (no app may ask them)."""

from __future__ import annotations

import re
from dataclasses import dataclass

LEVELS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's thermal status, 0 to 6 (from Android 10 on). Users do not notice light throttling."""
THERMAL, BATTERY = "dumpsys thermalservice", "dumpsys battery"
_SKIN, _CPU = 3, 0


@dataclass(frozen=True)
class Health:
    """A phone's state; None is unknown.

    Attributes:
        level: index into LEVELS.
        cpu_c, skin_c: of the hottest sensor, degrees Celsius.
        powered: whether it is charging.
    """

    level: int | None = None
    cpu_c: float | None = None
    skin_c: float | None = None
    battery_percent: int | None = None
    battery_c: float | None = None
    powered: bool = False

    @property
    def thermal(self) -> str:
        """The thermal status in a word."""
        return "unknown" if self.level is None else LEVELS[self.level]

    def __str__(self) -> str:
        parts = [f"thermal status {self.thermal}"]
        parts += [] if self.cpu_c is None else [f"processor {self.cpu_c:.0f}"]
        parts += [] if self.skin_c is None else [f"skin {self.skin_c:.0f} degrees Celsius"]
        return ", ".join([*parts, f"battery {self.battery}"])

    @property
    def battery(self) -> str:
        if self.battery_percent is None:
            return "unknown"
        warm = "" if self.battery_c is None else f" at {self.battery_c:.0f} degrees Celsius"
        return f"{self.battery_percent} %{warm}, {'charging' if self.powered else 'not charging'}"


def read_health(thermal: str, battery: str) -> Health:
    """Read the output of `dumpsys thermalservice` and `dumpsys battery`."""
    status = re.search(r"^\s*Thermal Status:\s*(\d+)", thermal, re.MULTILINE)
    level = min(int(status[1]), len(LEVELS) - 1) if status else None
    # What the hardware says now stands behind what was cached; old versions have the cache alone.
    current = thermal.partition("Current temperatures from HAL:")[2].partition("Current cooling")[0] or thermal
    sensors = re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+)", current)
    return Health(
        level,
        _hottest(sensors, _CPU),
        _hottest(sensors, _SKIN),
        _number(battery, "level"),
        None if (tenths := _number(battery, "temperature")) is None else tenths / 10,
        re.search(r"^\s*\w+ powered: true", battery, re.MULTILINE) is not None,
    )


def _hottest(sensors: list[tuple[str, str]], kind: int) -> float | None:
    """The hottest sensor of a kind. A missing sensor says 0."""
    return max((float(value) for value, type_ in sensors if int(type_) == kind and float(value) > 0), default=None)


def _number(text: str, name: str) -> int | None:
    match = re.search(rf"^\s*{name}: (-?\d+)\s*$", text, re.MULTILINE)
    return int(match[1]) if match else None
