"""Which site a request is for, and which site's page sent it."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lut_server.addresses import is_address, is_loopback
from lut_server.error_codes import refused
from lut_server.http.error_handlers import error_answer


class HostCheck:
    """ASGI middleware that answers requests for this server's own names alone.

    Another site can give a name of its own this server's address (DNS rebinding). Its page then
    reads the server as its own. An address or `localhost` cannot be given away.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_own(
            dict(scope["headers"]).get(b"host", b"localhost").decode("latin-1")
        ):
            problem = "this server does not go by the host name that was asked for (setting allowed_hosts)"
            await error_answer(403, "forbidden", problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        place = _place(f"http://{host}", "http")
        return place is not None and (is_address(place[0]) or is_loopback(place[0]) or place[0] in self._allowed)


def require_own_site(request: Request) -> None:
    """Refuse what a page of another site sent. Browsers name the site; other clients cannot be lured.

    Raises:
        AccessDenied: 403.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise refused("forbidden", "this was sent by a page of another site")
    origin = request.headers.get("origin")
    if origin is not None and not is_own_origin(origin, request.headers.get("host", "")):
        raise refused("forbidden", f"this was sent by a page of another site, {origin[:100]}")


def is_own_origin(origin: str, host: str) -> bool:
    """Whether an Origin header names the host that the request went to.

    The scheme may be either: a proxy that ends TLS hides it.
    """
    scheme = origin.partition("://")[0]
    place = _place(origin, scheme)
    return place is not None and place == _place(f"{scheme}://{host}", scheme)


def _place(url: str, scheme: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[scheme]
    except (ValueError, KeyError):
        return None
    return (parts.hostname, port) if parts.hostname else None
