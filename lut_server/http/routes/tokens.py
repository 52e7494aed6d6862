"""Tokens: what a token may do, and a token for a one-time code.

Pairing needs no token, and trusts no other site's page.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from lut_server.error_codes import refused
from lut_server.http.requests import parse_body, read_body
from lut_server.http.responses import TokenAnswer, answer
from lut_server.http.services import Reader, ServicesHere, count_failure, documented
from lut_server.http.sites import require_own_site
from lut_server.pairing.codes import PairAnswer, PairRequest, redeem_code
from shared.errors import AccessDenied

_LONGEST_BODY_BYTES = 4096
_LONGEST_BODY_S = 10.0
router = APIRouter(prefix="/v1")


async def _own_body(request: Request) -> bytes:
    """The small body of an own page, or of a program; none that another site's page could make a
    browser send.

    A browser asks first (and is refused) before it sends JSON across sites, and it says where a
    request comes from.

    Raises:
        AccessDenied: 403.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise refused("forbidden", "pairing takes Content-Type: application/json alone")
    require_own_site(request)
    return await read_body(request, _LONGEST_BODY_BYTES, _LONGEST_BODY_S)


OwnBody = Annotated[bytes, Depends(_own_body)]


@router.get("/token", tags=["tokens"], summary="What the token that is sent may do", **documented({200: TokenAnswer}))
def get_token(principal: Reader) -> Response:
    return answer(TokenAnswer(principal.role, principal.device))


@router.post(
    "/pair",
    tags=["pairing"],
    summary="A token for a one-time code",
    **documented({201: PairAnswer}, "unauthorized", "forbidden", "rate_limited", role=None, body=PairRequest),
)
def pair(request: Request, services: ServicesHere, body: OwnBody) -> Response:
    asked = parse_body(PairRequest, body)
    request.state.audit = {"device": asked.device}
    try:
        paired, token_id = redeem_code(services.store.pairings, asked, services.clock)
    except AccessDenied as error:
        raise count_failure(services, request, error) from error
    request.state.token = token_id
    return answer(paired, 201)
