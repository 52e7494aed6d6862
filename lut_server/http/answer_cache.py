"""Answers that are dear to make and that anybody may ask for: graphs and plans."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from lut_server.error_codes import refused

MOST_BYTES = 128 << 20
MOST_WAITING = 50
RETRY_AFTER_S = 5


@dataclass(frozen=True)
class MadeAnswer:
    """Bytes and their SHA-256."""

    content: bytes
    sha256: str


class AnswerCache:
    """Makes an answer at a time and keeps the last ones. Whoever waits for a turn holds no thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, MadeAnswer] = OrderedDict()
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def get(self, key: Hashable, make: Callable[[], bytes]) -> MadeAnswer:
        """The answer of that key.

        Raises:
            ServerRefused: 503, too many wait already.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if self._waiting >= MOST_WAITING:
            raise refused("unavailable", f"{self._waiting} others wait for graphs or plans; try again", RETRY_AFTER_S)
        self._waiting += 1
        try:
            async with self._turn:
                found = self._kept[key] if key in self._kept else await run_in_threadpool(_make, make)
        finally:
            self._waiting -= 1
        self._kept[key] = found
        while sum(len(answer.content) for answer in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)
        return found


def _make(make: Callable[[], bytes]) -> MadeAnswer:
    content = make()
    return MadeAnswer(content, hashlib.sha256(content).hexdigest())
