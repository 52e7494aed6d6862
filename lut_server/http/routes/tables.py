"""Latency tables: by hash for ever, or the newest of a device."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from lut_server.http.requests import Body
from lut_server.http.responses import ImportedAnswer, TablesAnswer, answer, answer_bytes
from lut_server.http.services import Agent, Reader, StoreHere, documented, services_of
from lut_server.tables.table_lookup import get_table
from lut_server.transfer.importing import ImportRequest, read_tables
from shared.tables.table import LatencyTable

JSON = "application/json"
FILE = "application/octet-stream"
router = APIRouter(prefix="/v1", tags=["tables"])


@router.get("/tables", summary="All tables", **documented({200: TablesAnswer}))
def list_tables(principal: Reader, store: StoreHere, device: str | None = None) -> Response:
    return answer(TablesAnswer(store.tables.list(principal.which_device(device))))


@router.post(
    "/tables",
    summary="Import another project's table",
    **documented({200: ImportedAnswer}, "conflict", role="agent", body=FILE),
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
    unit: str = "",
) -> Response:
    principal.require_device(device)
    tables = read_tables(body, name[:200], ImportRequest(device, column, kind, space, batch, unit=unit))
    new = {table.hash: store.tables.put_imported(table, principal.token_id) for table in tables}
    summaries = [table for table in store.tables.list(device) if table.hash in new]
    imported = tuple(summary for summary in summaries if new[summary.hash])
    return answer(ImportedAnswer(imported, tuple(summary for summary in summaries if not new[summary.hash])))


@router.get(
    "/tables/{table_hash}",
    summary="A table by its hash: the same bytes for ever",
    **documented({200: LatencyTable, 304: None}, "no_table"),
)
def get_table_by_hash(request: Request, principal: Reader, store: StoreHere, table_hash: str) -> Response:
    content = store.tables.get_bytes(table_hash)
    if principal.device is not None and table_hash not in {table.hash for table in store.tables.list(principal.device)}:
        principal.require_any_device()
    return answer_bytes(content, table_hash, JSON, request.headers.get("if-none-match"))


@router.get(
    "/devices/{name}/table",
    summary="A device's newest table of a space",
    **documented({200: LatencyTable, 304: None}, "unknown_device", "no_table"),
)
def get_device_table(
    request: Request, principal: Reader, name: str, space: str = "", runtime: str | None = None
) -> Response:
    principal.require_device(name)
    store = services_of(request).store
    table_hash = get_table(store, name, space, runtime or None).hash
    return answer_bytes(store.tables.get_bytes(table_hash), table_hash, JSON, request.headers.get("if-none-match"))
