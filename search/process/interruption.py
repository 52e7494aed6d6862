"""SIGINT and SIGTERM as a wish to stop: the training loop asks after each step and saves its state."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopWish:
    """Callable that says whether a signal came."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __call__(self) -> bool:
        return self._event.is_set()

    def wish(self) -> None:
        """Ask to stop."""
        self._event.set()


@contextmanager
def stop_on_signals() -> Iterator[StopWish]:
    """The first signal asks to stop; a second one interrupts at once. The old handlers come back at the end."""
    wish = StopWish()

    def handle(signal_number: int, frame: FrameType | None) -> None:
        if wish():
            raise KeyboardInterrupt
        wish.wish()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupt_on_terminate() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does, where there is no state of its own to save."""

    def handle(signal_number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
