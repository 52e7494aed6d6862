"""The memory of the container that the server runs in: buffers are shares of it where it is small."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@cache
def most_bytes(wanted: int, share: int) -> int:
    """So many bytes, or this share of the container's memory, which is less in a small container."""
    found = [wanted]
    for path in map(Path, _LIMITS):
        with suppress(OSError, ValueError):  # "max" is no limit
            found.append(int(path.read_text()) // share)
    return min(found)
