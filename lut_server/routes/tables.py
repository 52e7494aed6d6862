"""Latency tables: by hash for ever, or the newest of a device."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from lut_server.answers import ImportedAnswer, TablesAnswer, answer, answer_bytes
from lut_server.services import READ, Agent, Body, StoreHere, documented
from lut_server.table_lookup import get_table
from lut_server.transfer.importing import ImportRequest, read_tables
from shared.table import LatencyTable

JSON = "application/json"
FILE = "application/octet-stream"
router = APIRouter(prefix="/v1", tags=["tables"], dependencies=[Depends(READ)])
IfNoneMatch = Annotated[str | None, Header()]


@router.get("/tables", summary="All tables", **documented({200: TablesAnswer}))
def list_tables(store: StoreHere, device: str | None = None) -> Response:
    return answer(TablesAnswer(store.tables.list(device or None)))


@router.post(
    "/tables",
    summary="Import another project's table",
    **documented({200: ImportedAnswer}, role="agent", body=FILE),
)
def import_tables(
    principal: Agent,
    store: StoreHere,
    body: Body,
    name: str,
    device: str,
    column: str = "",
    kind: str = "",
    space: str = "",
    batch: int = 1,
) -> Response:
    principal.require_device(device)
    tables = read_tables(body, name[:200], ImportRequest(device, column, kind, space, batch))
    new = {table.hash: store.tables.put_imported(table) for table in tables}
    summaries = [one for one in store.tables.list(device) if one.hash in new]
    return answer(
        ImportedAnswer(
            tuple(one for one in summaries if new[one.hash]), tuple(one for one in summaries if not new[one.hash])
        )
    )


@router.get(
    "/tables/{table_hash}",
    summary="A table by its hash: the same bytes for ever",
    **documented({200: LatencyTable, 304: None}, "no_table"),
)
def get_table_by_hash(table_hash: str, store: StoreHere, if_none_match: IfNoneMatch = None) -> Response:
    return answer_bytes(store.tables.get_bytes(table_hash), table_hash, JSON, if_none_match)


@router.get(
    "/devices/{name}/table",
    summary="A device's newest table of a space",
    **documented({200: LatencyTable, 304: None}, "unknown_device", "no_table"),
)
def get_device_table(
    name: str,
    store: StoreHere,
    space: str = "",
    runtime: str | None = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    table = get_table(store, name, space, runtime or None)
    return answer_bytes(store.tables.get_bytes(table.hash), table.hash, JSON, if_none_match)
