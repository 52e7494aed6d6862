"""The minutes that each part of a run took, over all its starts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from shared.atomic_files import write_atomically

SECONDS_BETWEEN_TICKS = 5


class Stopwatch:
    """Adds the minutes of a part of a run to those of its earlier starts.

    Args:
        folder: of the run; keeps them in `minutes.json`.
        part: "training" or "scoring".
    """

    def __init__(self, folder: Path, part: str) -> None:
        self._folder, self._part = folder, part
        self._minutes = read_minutes(folder)
        self._before = self._minutes.get(part, 0.0)
        self._started_s = self._written_s = time.monotonic()

    def tick(self, _: int = 0) -> bool:
        """Call it often. It never asks to stop."""
        if time.monotonic() - self._written_s > SECONDS_BETWEEN_TICKS:
            self.stop()
        return False

    def stop(self) -> None:
        """Write the minutes so far."""
        self._written_s = time.monotonic()
        minutes = {**self._minutes, self._part: self._before + minutes_since(self._started_s)}
        write_minutes(self._folder, minutes)


def read_minutes(folder: Path) -> dict[str, float]:
    """Minutes of each part of the run in a folder."""
    path = folder / "minutes.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_minutes(folder: Path, minutes: Mapping[str, float]) -> None:
    """Write the minutes of each part of the run in a folder."""
    write_atomically(folder / "minutes.json", json.dumps(dict(minutes)).encode())


def minutes_since(started_s: float) -> float:
    """By the monotonic clock."""
    return (time.monotonic() - started_s) / 60
