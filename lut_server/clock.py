"""Time as an argument: code that depends on it takes a `Clock`, and tests set it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC at a fixed width: stamps sort as their moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
