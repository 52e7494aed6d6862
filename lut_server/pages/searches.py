"""What searches found: a list, and one with its ladder and its family."""

from __future__ import annotations

from dataclasses import dataclass

from lut_server.pages.paging import Paging, part
from lut_server.store.sql import Store
from lut_server.store.values import StoredSearch


@dataclass(frozen=True)
class SearchRow:
    """A search at a glance. `rungs` and `met` are 0 while no ladder was climbed."""

    search: str
    device: str
    space: str
    dataset: str
    posted_at: str
    members: int
    fastest_ms: float | None
    slowest_ms: float | None
    rungs: int
    met: int


@dataclass(frozen=True)
class SearchesView:
    """One page of the searches, the one posted last first."""

    searches: tuple[SearchRow, ...]
    paging: Paging


@dataclass(frozen=True)
class SearchView:
    """One search. `has_table`: whether the table that it used is here."""

    found: StoredSearch
    has_table: bool


def view_searches(store: Store, page: int) -> SearchesView:
    """One page of all searches."""
    shown, paging = part(store.searches.list()[::-1], page)
    return SearchesView(tuple(map(_row, shown)), paging)


def view_search(store: Store, search: str) -> SearchView:
    """One search.

    Raises:
        NotFound: unknown_search.
    """
    found = store.searches.get(search)
    hashes = {table.hash for table in store.tables.list(found.result.device)}
    return SearchView(found, found.result.table_hash in hashes)


def _row(stored: StoredSearch) -> SearchRow:
    result = stored.result
    times_ms = [one.predicted_ms for one in result.members]
    return SearchRow(
        result.search,
        result.device,
        result.space,
        result.dataset,
        stored.created_at,
        len(result.members),
        min(times_ms, default=None),
        max(times_ms, default=None),
        len(result.ladder),
        sum(rung.met for rung in result.ladder),
    )
