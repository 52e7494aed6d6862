"""What searches found: posted back by `search`, for people to look at."""

from __future__ import annotations

from fastapi import APIRouter, Response

from lut_server.http.requests import LONGEST_PART, Body, Limit, Offset, parse_body
from lut_server.http.responses import SearchesAnswer, answer
from lut_server.http.services import Reader, Searcher, StoreHere, documented
from lut_server.store.values import StoredSearch
from shared.search_result import SearchResult

router = APIRouter(prefix="/v1/searches", tags=["searches"])


@router.post(
    "",
    summary="Post what a search found; again, with its ladder",
    **documented(
        {201: StoredSearch, 200: StoredSearch}, "unknown_device", "conflict", role="search", body=SearchResult
    ),
)
def post_search(principal: Searcher, store: StoreHere, body: Body) -> Response:
    result = parse_body(SearchResult, body)
    principal.require_device(result.device)
    is_new = store.searches.put(result)
    return answer(store.searches.get(result.search), 201 if is_new else 200)


@router.get("", summary="Searches, in parts", **documented({200: SearchesAnswer}, "invalid"))
def list_searches(
    principal: Reader, store: StoreHere, device: str | None = None, offset: Offset = 0, limit: Limit = LONGEST_PART
) -> Response:
    return answer(SearchesAnswer(store.searches.list(principal.which_device(device), offset=offset, limit=limit)))


@router.get("/{search}", summary="A search, as it was posted last", **documented({200: StoredSearch}, "unknown_search"))
def get_search(search: str, principal: Reader, store: StoreHere) -> Response:
    found = store.searches.get(search)
    principal.require_device(found.result.device)
    return answer(found)
