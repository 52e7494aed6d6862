"""Latency tables: by hash for ever, or the newest of a device."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from lut_server.answers import TablesAnswer, answer, answer_bytes
from lut_server.services import READ, StoreHere, documented
from lut_server.table_lookup import get_table
from shared.table import LatencyTable

JSON = "application/json"
router = APIRouter(prefix="/v1", tags=["tables"], dependencies=[Depends(READ)])
IfNoneMatch = Annotated[str | None, Header()]


@router.get("/tables", summary="All tables", **documented({200: TablesAnswer}))
def list_tables(store: StoreHere, device: str | None = None) -> Response:
    return answer(TablesAnswer(store.tables.list(device or None)))


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
