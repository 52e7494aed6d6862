"""Retries with growing pauses while the server is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from typing import TypeVar

from shared.errors import LutnasError, ServerAway, ServerRefused, UntrustedServer

T = TypeVar("T")


def pauses_s() -> Iterator[float]:
    """0.5, 1, 2, ... 30, 30, ... seconds."""
    return chain((0.5, 1.0, 2.0, 4.0, 8.0, 16.0), repeat(30.0))


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ServerRefused):
        return error.status == 429 or error.status >= 500
    return isinstance(error, ServerAway) and not isinstance(error, UntrustedServer)


def retry(action: Callable[[], T], attempts: int = 4, sleep: Callable[[float], None] = time.sleep) -> T:
    """Call `action` until it succeeds, at most `attempts` times.

    Raises:
        LutnasError: the last failure, or the first that a retry cannot help.
    """
    for pause_s in islice(pauses_s(), attempts - 1):
        try:
            return action()
        except LutnasError as error:
            if not is_passing(error):
                raise
        sleep(pause_s)
    return action()
