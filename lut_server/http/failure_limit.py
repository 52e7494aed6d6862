"""A limit on failed authentications per client: guessing tokens gets slow."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_FAILURES = 10
WINDOW_S = 60.0
_REMEMBERED_CLIENTS = 10_000


class FailureLimit:
    """Failures of each client within a sliding window.

    Args:
        most: failures that a client may have within the window.
    """

    def __init__(
        self, most: int = MOST_FAILURES, window_s: float = WINDOW_S, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._window_s = window_s
        self._clock_s = clock_s
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, client: str) -> int:
        """Whole seconds until the client may try again; 0: now."""
        with self._lock:
            recent = self._recent(client)
            if len(recent) < self._most:
                return 0
            return max(1, math.ceil(recent[-self._most] + self._window_s - self._clock_s()))

    def count(self, client: str) -> None:
        """One more failure of the client."""
        with self._lock:
            self._failures[client] = [*self._recent(client), self._clock_s()][-self._most :]
            self._failures.move_to_end(client)
            if len(self._failures) > _REMEMBERED_CLIENTS:
                self._failures.popitem(last=False)

    def _recent(self, client: str) -> list[float]:
        oldest_s = self._clock_s() - self._window_s
        return [failed_s for failed_s in self._failures.get(client, ()) if failed_s > oldest_s]
