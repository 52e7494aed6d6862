"""What searches found: a list, and a page for each with its ladder and its family."""

from __future__ import annotations

from dataclasses import dataclass

from lut_server.pages.paging import Paging, paginate
from lut_server.store.sql import Store
from lut_server.store.values import StoredSearch


@dataclass(frozen=True)
class SearchesView:
    """One page of the searches, the newest first."""

    searches: tuple[StoredSearch, ...]
    paging: Paging


@dataclass(frozen=True)
class SearchView:
    """A search. `has_table`: this server has the table that it used."""

    found: StoredSearch
    has_table: bool


def view_searches(store: Store, page: int) -> SearchesView:
    return SearchesView(*paginate(store.searches.list()[::-1], page))


def view_search(store: Store, search: str) -> SearchView:
    """A search.

    Raises:
        NotFound: unknown_search.
    """
    found = store.searches.get(search)
    hashes = {table.hash for table in store.tables.list(found.result.device)}
    return SearchView(found, found.result.table_hash in hashes)
