"""Tables as they are served, kept in memory: the same hash always means the same bytes, so a copy is never stale.

Which table is a device's newest does change. SQLite says cheaply whether anything was written since; as long as nothing
was, the last answer holds, and a client that has the table already costs the database nothing.
"""

from __future__ import annotations

import gzip
import threading
from collections import OrderedDict

from lut_server.store.sql import Store
from lut_server.tables.table_lookup import get_table

KEPT_BYTES = 128 << 20
MOST_QUESTIONS = 1024
_GZIP_LEVEL = 5
Asked = tuple[str, bytes]
"""A request's path and query string, as they came."""
_Question = tuple[str, str, str | None]


class TableShelf:
    """Looks tables up once; any thread may ask."""

    def __init__(self, store: Store, kept_bytes: int = KEPT_BYTES) -> None:
        self._store = store
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._bytes: OrderedDict[tuple[str, bool], bytes] = OrderedDict()
        self._newest: dict[_Question, str] = {}
        self._asked: dict[Asked, str] = {}
        self._version: int | None = None

    def find_newest(self, device: str, space: str, runtime: str | None, asked: Asked | None = None) -> str | None:
        """Hash of the device's newest table, if it is known without asking the database.

        `asked` is remembered with it: `find_asked` knows the answer from then on.
        """
        version = self._store.find_version()
        with self._lock:
            self._forget(version)
            found = self._newest.get((device, space, runtime))
            if found is not None:
                self._remember(asked, found)
            return found

    def newest(self, device: str, space: str, runtime: str | None, asked: Asked | None = None) -> str:
        """Hash of the device's newest table (unknown_device, no_table)."""
        before = self._store.find_version()
        table_hash = get_table(self._store, device, space, runtime).hash
        with self._lock:
            self._forget(before)
            if before is not None and len(self._newest) < MOST_QUESTIONS:
                self._newest[device, space, runtime] = table_hash
                self._remember(asked, table_hash)
        return table_hash

    def may_know(self, asked: Asked) -> bool:
        """Whether `find_asked` is worth its question to the database."""
        return asked in self._asked

    def find_asked(self, asked: Asked) -> str | None:
        """Hash of the table that these words meant the last time, if nothing was written since."""
        version = self._store.find_version()
        with self._lock:
            self._forget(version)
            return self._asked.get(asked)

    def find_bytes(self, table_hash: str, compressed: bool = False) -> bytes | None:
        """A table's canonical JSON, plain or as gzip, if it is kept."""
        with self._lock:
            found = self._bytes.get((table_hash, compressed))
            if found is not None:
                self._bytes.move_to_end((table_hash, compressed))
            return found

    def get_bytes(self, table_hash: str, compressed: bool = False) -> bytes:
        """A table's canonical JSON, plain or as gzip (no_table)."""
        content = self.find_bytes(table_hash) or self._store.tables.get_bytes(table_hash)
        self._keep((table_hash, False), content)
        if compressed:
            content = gzip.compress(content, _GZIP_LEVEL, mtime=0)
            self._keep((table_hash, True), content)
        return content

    def _keep(self, key: tuple[str, bool], content: bytes) -> None:
        with self._lock:
            self._bytes[key] = content
            self._bytes.move_to_end(key)
            while len(self._bytes) > 1 and sum(map(len, self._bytes.values())) > self._kept_bytes:
                self._bytes.popitem(last=False)

    def _forget(self, version: int | None) -> None:
        if version is None or version != self._version:
            self._newest.clear()
            self._asked.clear()
            self._version = version

    def _remember(self, asked: Asked | None, table_hash: str) -> None:
        if asked is not None and len(self._asked) < MOST_QUESTIONS:
            self._asked[asked] = table_hash
