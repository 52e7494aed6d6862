"""Whether the process runs, and whether it can serve."""

from __future__ import annotations

from fastapi import APIRouter, Response

from lut_server.answers import Health, Readiness, answer
from lut_server.services import StoreHere, documented

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process runs", **documented({200: Health}, role=None))
async def get_health() -> Response:
    return answer(Health("ok"))


@router.get("/readyz", summary="Whether the database answers", **documented({200: Readiness}, role=None))
def get_readiness(store: StoreHere) -> Response:
    return answer(Readiness("ready", store.revision()))
