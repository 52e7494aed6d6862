"""What searches found, in the database."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.sql.functions import max as newest_of

from lut_server import error_codes
from lut_server.clock import Clock, stamp
from lut_server.store import schema
from lut_server.store.database import Database, insert_missing
from lut_server.store.sql.devices import require_device
from lut_server.store.values import StoredSearch
from shared.search_result import SearchResult
from shared.wire import canonical_json, content_hash, from_wire

_SEARCHES = schema.searches.c


class SearchStore:
    """What searches found. The newest posting of a search stands for it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def put(self, result: SearchResult) -> bool:
        """Store a posting; False if the same was there already (unknown_device)."""
        values = {
            "id": content_hash(result),
            "search": result.search,
            "device": result.device,
            "content": canonical_json(result).decode(),
            "created_at": stamp(self._clock()),
        }
        with self._database.write() as connection:
            require_device(connection, result.device)
            return insert_missing(connection, schema.searches, values) > 0

    def get(self, search: str) -> StoredSearch:
        """The newest posting of a search (unknown_search)."""
        query = select(schema.searches).where(_SEARCHES.search == search).order_by(_SEARCHES.number.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise error_codes.refused("unknown_search", f"no search {search[:80]} was posted")
        return _stored(row)

    def list(self, device: str | None = None) -> tuple[StoredSearch, ...]:
        """The newest posting of each search, of one device if given."""
        newest: Select[Any] = select(newest_of(_SEARCHES.number)).group_by(_SEARCHES.search)
        query = select(schema.searches).where(_SEARCHES.number.in_(newest)).order_by(_SEARCHES.number)
        if device is not None:
            query = query.where(_SEARCHES.device == device)
        with self._database.read() as connection:
            return tuple(_stored(row) for row in connection.execute(query))


def _stored(row: Row[Any]) -> StoredSearch:
    return StoredSearch(row.created_at, from_wire(SearchResult, json.loads(row.content)))
