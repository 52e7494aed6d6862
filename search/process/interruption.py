"""SIGINT and SIGTERM ask a search to stop: after each step it looks, and saves its state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from shared.command_line import handling_signals


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether a signal came. A second signal interrupts at once."""
    came = threading.Event()

    def handle(signal_number: int, frame: FrameType | None) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        came.set()

    with handling_signals(handle):
        yield came.is_set
