"""The device's status: noted between rounds, reported to the server by a thread.

The machine is read between rounds only: a program started beside a round would be timed along.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from profiler_agent.host.machine import Machine
from shared.device_status import CampaignProgress, DeviceStatus, TableCheck
from shared.errors import LutnasError
from shared.measurements.measurement import Run

if TYPE_CHECKING:
    from profiler_agent.server.server_client import ServerClient
    from profiler_agent.timing.campaign import Subject

LOOK_EVERY_S = 10.0
REPORT_EVERY_S = 20.0
_MOST_RUNS = 20


class StatusBoard:
    """A device's status as noted last; any thread may read it."""

    def __init__(self, machine: Machine | None = None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._machine = machine or Machine()
        self._clock_s = clock_s
        self._next_look_s = self._next_count_s = -math.inf
        self.status = DeviceStatus()

    def sample(self) -> None:
        """Read the machine if that is due. Call it as often as you like, but not during a round."""
        if self._clock_s() < self._next_look_s:
            return
        self._next_look_s = self._clock_s() + LOOK_EVERY_S
        throttling = self._machine.throttling()
        causes = None if throttling is None else tuple(throttling)
        self.status = replace(self.status, temperature_c=self._machine.temperature_c(), throttling=causes)

    def note_progress(self, runs: Sequence[Run], measured_before: int, subjects: Sequence[Subject]) -> None:
        """Note a campaign's progress if that is due.

        Args:
            measured_before: tasks of the runs that were measured before the campaign.
        """
        if self._clock_s() < self._next_count_s:
            return
        self._next_count_s = self._clock_s() + LOOK_EVERY_S
        done = sum(subject.done for subject in subjects)
        shown = runs[:_MOST_RUNS]
        campaign = CampaignProgress(
            tuple(run.id for run in shown),
            tuple(run.space for run in shown),
            measured_before + done,
            measured_before + len(subjects),
        )
        self.status = replace(self.status, campaign=campaign)

    def note_check(self, check: TableCheck) -> None:
        """Note what a check of a table found."""
        self.status = replace(self.status, check=check)

    def clear_progress(self) -> None:
        """Note that nothing is being measured."""
        self.status, self._next_count_s = replace(self.status, campaign=None), -math.inf


@contextmanager
def repeating(action: Callable[[], bool], every_s: float) -> Iterator[None]:
    """Call the action in a thread every so many seconds, while it returns True."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(every_s) and action():
            pass

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


@contextmanager
def reporting(client: ServerClient, device: str, board: StatusBoard, every_s: float = REPORT_EVERY_S) -> Iterator[None]:
    """Report to the server now and then. A server that does not listen disturbs nobody."""

    def report() -> bool:
        with suppress(LutnasError):
            client.report_status(device, board.status)
        return True

    board.sample()
    with repeating(report, every_s):
        yield
