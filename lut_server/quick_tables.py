"""Answers for a table that is in memory, given before the web framework sees the request.

A device's newest table is what is asked for most often, by agents and searches that have it already, and the
framework's routing and dependencies cost many times what the answer does. Only a plain question is answered here: one
that the route has answered before in the same words, while nothing was written since, from a client without a token.
Whatever else passes on to the route, and a test holds that both say the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from lut_server.http.responses import Headers, matches, raw_headers
from lut_server.table_shelf import Asked, TableShelf


@dataclass(frozen=True)
class _Route:
    """What `lut_server.http.request_log` reads of a route."""

    path: str


_DEVICE_TABLE, _TABLE = _Route("/v1/devices/{name}/table"), _Route("/v1/tables/{table_hash}")


class QuickTables:
    """ASGI middleware; not for servers whose reads need a token."""

    def __init__(self, app: ASGIApp, shelf: TableShelf) -> None:
        self._app = app
        self._shelf = shelf
        self._headers: dict[tuple[str, bool, int], Headers] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._find(scope)
        if found is None:
            await self._app(scope, receive, send)
            return
        status, headers, content = found
        scope["route"] = _TABLE if scope["path"].startswith("/v1/tables/") else _DEVICE_TABLE
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _find(self, scope: Scope) -> tuple[int, Headers, bytes] | None:
        """Status, headers and body, or None where the route has to be asked."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        asked: Asked = (scope["path"], scope["query_string"])
        if not self._shelf.may_know(asked):
            return None
        if_none_match, compressed = None, False
        for name, value in scope["headers"]:
            if name == b"authorization":
                return None
            if name == b"if-none-match":
                if_none_match = value.decode("latin-1")
            elif name == b"accept-encoding":
                compressed = b"gzip" in value
        table_hash = self._shelf.find_asked(asked)
        if table_hash is None:
            return None
        if if_none_match is not None and matches(table_hash, if_none_match):
            return 304, self._raw(table_hash, False, -1), b""
        content = self._shelf.find_bytes(table_hash, compressed)
        return None if content is None else (200, self._raw(table_hash, compressed, len(content)), content)

    def _raw(self, table_hash: str, compressed: bool, length: int) -> Headers:
        """The answer's headers, as bytes; a negative length is that of no body."""
        key = (table_hash, compressed, length)
        found = self._headers.get(key)
        if found is None:
            if len(self._headers) >= 1024:
                self._headers.clear()
            found = self._headers[key] = raw_headers(table_hash, compressed, length)
        return list(found)
