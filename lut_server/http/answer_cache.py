"""Answers that are dear to make and that anybody may ask for: graphs and plans."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from weakref import WeakSet

from starlette.concurrency import run_in_threadpool

from lut_server.error_codes import refused
from lut_server.http.container_memory import most_bytes

MOST_BYTES = 64 << 20
MOST_WAITING = 50
RETRY_AFTER_S = 5


@dataclass(frozen=True, eq=False)
class MadeAnswer:
    """Bytes and their SHA-256. Whoever sends them holds this, not the bytes alone."""

    content: bytes
    sha256: str


class AnswerCache:
    """Makes an answer at a time and keeps the last ones. Whoever waits for a turn holds no thread.

    `MOST_BYTES` are kept. With those that are being sent they take twice that, and one more.
    """

    def __init__(self) -> None:
        self._most_bytes = most_bytes(MOST_BYTES, 32)
        self._kept: OrderedDict[Hashable, MadeAnswer] = OrderedDict()
        self._there: WeakSet[MadeAnswer] = WeakSet()
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
                found = self._kept[key] if key in self._kept else await self._make(make)
        finally:
            self._waiting -= 1
        self._kept[key] = found
        while _size(self._kept.values()) > self._most_bytes:
            self._kept.popitem(last=False)
        return found

    async def _make(self, make: Callable[[], bytes]) -> MadeAnswer:
        if _size(self._there) > 2 * self._most_bytes:
            raise refused("unavailable", "clients have still to read other graphs; try again", RETRY_AFTER_S)
        made = await run_in_threadpool(_make, make)
        self._there.add(made)
        return made


def _size(answers: Iterable[MadeAnswer]) -> int:
    return sum(len(answer.content) for answer in answers)


def _make(make: Callable[[], bytes]) -> MadeAnswer:
    content = make()
    return MadeAnswer(content, hashlib.sha256(content).hexdigest())
