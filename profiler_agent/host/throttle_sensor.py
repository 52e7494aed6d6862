"""A file by which another program tells what holds this machine back.

On Android no app may read the thermal status. `profiler-agent adb` reads it from outside and writes
{"pause": false, "held_back": ["thermal status light"], "facts": {"battery": "84 %"}} here. The file
counts for a minute, so that a lost writer stops nobody.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FRESH_S = 60.0
LOOK_EVERY_S = 1.0
VARIABLE = "LUTNAS_WATCH"


@dataclass(frozen=True)
class SensorReading:
    """Content of the file.

    Attributes:
        pause: measure nothing now.
        held_back: what makes measurements doubtful now.
    """

    pause: bool = False
    held_back: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


class ThrottleSensor:
    """Reads the file. A missing, old or garbled file says nothing."""

    def __init__(
        self,
        path: Path,
        clock_s: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._path = path
        self._clock_s = clock_s
        self._sleep = sleep
        self._say = say
        self._next_look_s = 0.0

    def read(self) -> SensorReading:
        try:
            age_s = self._clock_s() - self._path.stat().st_mtime
            content = json.loads(self._path.read_bytes()) if abs(age_s) <= FRESH_S else {}
        except (OSError, ValueError):
            return SensorReading()
        if not isinstance(content, dict):
            return SensorReading()
        held_back, facts = content.get("held_back"), content.get("facts")
        return SensorReading(
            content.get("pause") is True,
            tuple(map(str, held_back)) if isinstance(held_back, list) else (),
            {str(name): str(value) for name, value in facts.items()} if isinstance(facts, dict) else {},
        )

    def wait(self) -> None:
        """Wait while a pause is asked for; to be called between rounds, as often as you like."""
        if self._clock_s() < self._next_look_s:
            return
        paused = False
        while (reading := self.read()).pause:
            if not paused:
                self._say(f"pausing: {', '.join(reading.held_back) or 'as asked for'}")
            paused = True
            self._sleep(LOOK_EVERY_S)
        if paused:
            self._say("going on")
        self._next_look_s = self._clock_s() + LOOK_EVERY_S


def find_throttle_sensor(
    environment: Mapping[str, str] = os.environ, say: Callable[[str], None] = lambda line: None
) -> ThrottleSensor | None:
    """The file that LUTNAS_WATCH names; None if it names none."""
    path = environment.get(VARIABLE)
    return ThrottleSensor(Path(path), say=say) if path else None
