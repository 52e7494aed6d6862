"""Whether the process runs, whether it can serve, and what an operator's monitoring asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, Response

from lut_server.http.metrics import CONTENT_TYPE
from lut_server.http.responses import Health, Readiness, answer
from lut_server.http.services import READ_IN_TURN, ServicesHere, StoreHere, documented
from lut_server.store.sql.store import check_ready

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process runs", **documented({200: Health}, role=None))
async def get_health() -> Response:
    return answer(Health("ok"))


async def _in_turn(services: ServicesHere) -> AsyncIterator[None]:
    async with services.probing:
        yield


@router.get(
    "/readyz",
    summary="Whether a measurement could be stored",
    dependencies=[Depends(_in_turn, scope="function")],
    **documented({200: Readiness}, role=None),
)
def get_readiness(store: StoreHere) -> Response:
    return answer(Readiness("ready", check_ready(store.database)))


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    dependencies=[READ_IN_TURN],
    **documented({200: "text/plain"}),
)
def get_metrics(services: ServicesHere) -> Response:
    return Response(services.metrics.render(services.store), media_type=CONTENT_TYPE)
