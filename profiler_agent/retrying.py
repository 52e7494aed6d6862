"""Asks again when the server is away: soon at first, then ever more rarely."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from shared.errors import ServerAway, ServerRefused, UntrustedServer

T = TypeVar("T")
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
TOO_MANY_REQUESTS = 429


def pauses_s() -> Iterator[float]:
    """0.5, 1, 2, ... 30, 30, ... seconds."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def is_passing(error: Exception) -> bool:
    """Whether asking the same again later can help."""
    if isinstance(error, UntrustedServer):
        return False
    return isinstance(error, ServerAway) or (
        isinstance(error, ServerRefused) and (error.status == TOO_MANY_REQUESTS or error.status >= 500)
    )


def retry(action: Callable[[], T], attempts: int = 4, sleep: Callable[[float], None] = time.sleep) -> T:
    """Do it, again if need be.

    Raises:
        LutnasError: the last failure, or one that asking again cannot help.
    """
    for pause_s, left in zip(pauses_s(), range(attempts - 1, -1, -1), strict=False):
        try:
            return action()
        except (ServerAway, ServerRefused) as error:
            if not left or not is_passing(error):
                raise
        sleep(pause_s)
    raise AssertionError("unreachable")
