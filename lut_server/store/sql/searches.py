"""What searches found, in the database."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row, Select, func, select

from lut_server import error_codes
from lut_server.clock import stamp
from lut_server.store import schema
from lut_server.store.database import DatabaseStore, insert_missing
from lut_server.store.sql.devices import require_device
from lut_server.store.values import StoredSearch
from shared.search_result import SearchResult
from shared.wire import canonical_json, content_hash, from_wire

_SEARCHES = schema.searches.c


class SearchStore(DatabaseStore):
    """What searches found. The newest posting of a search stands for it."""

    def put(self, result: SearchResult) -> bool:
        """Store a posting; False if the same was there already (unknown_device; conflict: the search
        is another device's).
        """
        values = {
            "id": content_hash(result),
            "search": result.search,
            "device": result.device,
            "content": canonical_json(result).decode(),
            "created_at": stamp(self._clock()),
        }
        with self._database.write() as connection:
            require_device(connection, result.device)
            others = select(_SEARCHES.id).where(_SEARCHES.search == result.search, _SEARCHES.device != result.device)
            if connection.scalar(others.limit(1)) is not None:
                raise error_codes.refused("conflict", f"search {result.search} was posted for another device")
            return connection.execute(insert_missing(connection, schema.searches), values).rowcount > 0

    def get(self, search: str) -> StoredSearch:
        """The newest posting of a search (unknown_search)."""
        query = select(schema.searches).where(_SEARCHES.search == search).order_by(_SEARCHES.number.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise error_codes.refused("unknown_search", f"no search {search[:80]} was posted")
        return _stored(row)

    def count(self) -> int:
        """Number of searches."""
        with self._database.read() as connection:
            return connection.scalar(select(func.count(_SEARCHES.search.distinct()))) or 0

    def list(
        self, device: str | None = None, newest_first: bool = False, offset: int = 0, limit: int | None = None
    ) -> tuple[StoredSearch, ...]:
        """The newest posting of each search, of one device if given, the oldest first: `limit` of them after the
        first `offset`.
        """
        newest: Select[Any] = select(func.max(_SEARCHES.number)).group_by(_SEARCHES.search)
        order = _SEARCHES.number.desc() if newest_first else _SEARCHES.number
        query = select(schema.searches).where(_SEARCHES.number.in_(newest)).order_by(order).offset(offset).limit(limit)
        if device is not None:
            query = query.where(_SEARCHES.device == device)
        with self._database.read() as connection:
            return tuple(_stored(row) for row in connection.execute(query))


def _stored(row: Row[Any]) -> StoredSearch:
    return StoredSearch(row.created_at, from_wire(SearchResult, json.loads(row.content)))
