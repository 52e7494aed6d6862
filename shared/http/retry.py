"""Retries with growing pauses while the server is away.

`lut_server/web_agent/static/server.js` retries by the same rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from typing import TypeVar

from shared.errors import LutnasError, ServerAway, ServerRefused, UntrustedServer

T = TypeVar("T")
LONGEST_PAUSE_S = 60.0
"""Of those that a server may ask for with `Retry-After`."""


def pauses_s() -> Iterator[float]:
    """0.5, 1, 2, ... 30, 30, ... seconds."""
    return chain((0.5, 1.0, 2.0, 4.0, 8.0, 16.0), repeat(30.0))


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ServerRefused):
        return error.status in (408, 429) or error.status >= 500
    return isinstance(error, ServerAway) and not isinstance(error, UntrustedServer)


def asked_pause_s(error: LutnasError, pause_s: float) -> float:
    """The pause, or the longer pause that the server asks for."""
    return max(pause_s, min(error.retry_after_s or 0.0, LONGEST_PAUSE_S))


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
            pause_s = asked_pause_s(error, pause_s)
        sleep(pause_s)
    return action()
