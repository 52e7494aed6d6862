"""What a token may do, for programs that want to know before they begin."""

from __future__ import annotations

from fastapi import APIRouter, Response

from lut_server.http.responses import TokenAnswer, answer
from lut_server.http.services import Reader, documented

router = APIRouter(prefix="/v1/token", tags=["tokens"])


@router.get("", summary="What the token that is sent may do", **documented({200: TokenAnswer}))
def get_token(principal: Reader) -> Response:
    return answer(TokenAnswer(principal.role, principal.device))
