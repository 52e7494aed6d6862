"""Pairing: a token for a one-time code. It needs no token, and trusts no other site's page."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response

from lut_server.error_codes import refused
from lut_server.http.requests import parse_body, read_body
from lut_server.http.responses import answer
from lut_server.http.services import ServicesHere, count_failure, documented, require_tries_left
from lut_server.pairing.codes import PairAnswer, PairRequest, redeem_code
from shared.errors import AccessDenied

_LONGEST_BODY_BYTES = 4096
_LONGEST_BODY_S = 10.0
router = APIRouter(tags=["pairing"])


async def _own_body(request: Request, services: ServicesHere) -> bytes:
    """The small body of a client that may try."""
    require_own_page(request)
    require_tries_left(services, request)
    return await read_body(request, _LONGEST_BODY_BYTES, _LONGEST_BODY_S)


OwnBody = Annotated[bytes, Depends(_own_body)]


@router.post(
    "/v1/pair",
    summary="A token for a one-time code",
    **documented({201: PairAnswer}, "unauthorized", "forbidden", "rate_limited", role=None, body=PairRequest),
)
def pair(request: Request, services: ServicesHere, body: OwnBody) -> Response:
    asked = parse_body(PairRequest, body)
    request.state.audit = {"device": asked.device}
    try:
        paired, token_id = redeem_code(services.store.pairings, asked, services.clock)
    except AccessDenied:
        count_failure(services, request)
        raise
    request.state.token = token_id
    return answer(PairAnswer(paired.token, paired.device, paired.expires_at), 201)


def require_own_page(request: Request) -> None:
    """Refuse what a page of another site could make a browser send.

    A browser asks first (and is refused) before it sends JSON across sites, and it says where a
    request comes from.

    Raises:
        AccessDenied: 403.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise refused("forbidden", "pairing takes Content-Type: application/json alone")
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
