"""Everything that the server keeps, out and in, as one file."""

from __future__ import annotations

import io

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from lut_server.error_codes import refused
from lut_server.http.requests import Body
from lut_server.http.responses import answer
from lut_server.http.services import Administrator, StoreHere, documented
from lut_server.store.values import Loaded
from lut_server.transfer.archive import GZIP_START, archive_lines, compressed, load_archive
from shared.errors import CorruptFile, InvalidValue, OtherSchema

GZIP, LINES = "application/gzip", "application/x-ndjson"
router = APIRouter(prefix="/v1/archive", tags=["archive"])


@router.get("", summary="Everything but the tokens", **documented({200: GZIP}, role="admin"))
def get_archive(principal: Administrator, store: StoreHere) -> Response:
    principal.require_any_device()
    headers = {"Content-Disposition": 'attachment; filename="lutnas.jsonl.gz"'}
    return StreamingResponse(compressed(archive_lines(store)), media_type=GZIP, headers=headers)


@router.post(
    "",
    summary="Store everything that an archive holds, or nothing",
    **documented({200: Loaded}, "conflict", role="admin", body=LINES),
)
def post_archive(principal: Administrator, store: StoreHere, body: Body) -> Response:
    principal.require_any_device()
    if body.startswith(GZIP_START):
        raise refused("unsupported_encoding", "a compressed archive is sent with Content-Encoding: gzip")
    try:
        return answer(load_archive(store, io.BytesIO(body), "body"))
    except (CorruptFile, OtherSchema) as error:
        raise InvalidValue("archive", str(error)) from error
