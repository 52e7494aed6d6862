"""What a device installs lutnas from. Open to all: it holds nothing measured."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from lut_server.error_codes import refused
from lut_server.http.responses import answer_bytes
from lut_server.http.services import documented
from lut_server.provisioning.release import get_release

WHEEL, SCRIPT, TEXT = "application/zip", "text/x-shellscript", "text/plain"
router = APIRouter(prefix="/agent", tags=["agent"])


@router.get(
    "/install.sh",
    summary="The script that installs the agent on a device, for the address that it is asked for at",
    **documented({200: SCRIPT}, "invalid", role=None),
)
def get_script(request: Request) -> Response:
    script = get_release().script(str(request.base_url))
    # The Host header is part of the question: nothing between here and the device may keep the
    # answer.
    headers = {"Cache-Control": "no-store", "Vary": "Host"}
    return Response(script, media_type=f"{SCRIPT}; charset=utf-8", headers=headers)


@router.get(
    "/constraints.txt",
    summary="Versions of the agent's dependencies that this lutnas was tested with",
    **documented({200: TEXT, 304: None}, role=None),
)
def get_constraints(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    content = get_release().constraints
    return answer_bytes(content, hashlib.sha256(content).hexdigest(), f"{TEXT}; charset=utf-8", if_none_match)


@router.get(
    "/wheels/{name}",
    summary="The wheel of the lutnas that serves here",
    **documented({200: WHEEL, 304: None}, "not_found", role=None),
)
def get_wheel(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    wheel = get_release().wheel
    if name != wheel.name:
        raise refused("not_found", f"no wheel '{name[:80]}' here; this server has {wheel.name}")
    return answer_bytes(wheel.content, wheel.sha256, WHEEL, if_none_match)
