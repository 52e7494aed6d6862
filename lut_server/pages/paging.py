"""One page of a long list: no page gets longer with what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

ROWS = 50


@dataclass(frozen=True)
class Paging:
    """Page `number` of `pages` is shown, of `total` rows in all."""

    number: int
    pages: int
    total: int


def paginate(rows: Sequence[T], number: int, size: int = ROWS) -> tuple[tuple[T, ...], Paging]:
    """The rows of a page; a number beyond the last page means the last page."""
    pages = max(1, -(-len(rows) // size))
    shown = min(max(number, 1), pages)
    return tuple(rows[(shown - 1) * size : shown * size]), Paging(shown, pages, len(rows))
