"""What to measure: plans, the graphs they name, and models that someone uploaded."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from lut_server.http.container_memory import most_bytes
from lut_server.http.requests import Body
from lut_server.http.responses import ModelAnswer, PiecesOf, PlanAnswer, answer, answer_bytes
from lut_server.http.services import ASK_IN_TURN, Searcher, ServicesHere, StoreHere, documented
from lut_server.runs.served_graphs import check_model
from lut_server.store.values import ModelSummary
from shared.errors import InvalidValue
from shared.graphs import build_graph
from shared.measurements.graph_spec import NetworkGraph, UploadedModel, parse_graph_spec
from shared.measurements.plan import make_plan
from shared.runtime import check_precision
from shared.spaces import Own, parse_space
from shared.wire import canonical_json

ONNX = "application/octet-stream"
router = APIRouter(prefix="/v1", tags=["plans"])


@router.get(
    "/plan",
    summary="The plan of a profiling run: the same parameters always give the same plan",
    dependencies=[ASK_IN_TURN],
    **documented({200: PlanAnswer}, "invalid"),
)
async def get_plan(
    services: ServicesHere, space: str, calibration: int = 40, held_out: int = 40, seed: int = 0, isolated: bool = False
) -> Response:
    asked = (parse_space(space), calibration, held_out, seed, isolated)
    found = await services.answers.get(asked, lambda: canonical_json(PlanAnswer(make_plan(*asked))))
    return Response(found.content, media_type="application/json")


@router.get(
    "/graph",
    summary="The ONNX file of a graph reference: the same reference always gives the same bytes",
    dependencies=[ASK_IN_TURN],
    **documented({200: ONNX, 304: None}, "unknown_model", "invalid"),
)
async def get_graph(
    services: ServicesHere,
    spec: str,
    batch: Annotated[int, Query(ge=1, le=4096)] = 1,
    precision: str = "fp32",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    reference = parse_graph_spec(spec)
    check_precision(precision)
    limit_bytes = most_bytes(services.settings.max_graph_mb << 20, 6)

    def make() -> bytes:
        if isinstance(reference, UploadedModel):
            return services.store.models.get(reference.sha256)
        if isinstance(reference, NetworkGraph) and isinstance(reference.space, Own):
            if (batch, precision) != (1, "fp32"):
                raise InvalidValue("precision", "and batch: networks of a user's own model are fp32 of one image")
            return services.store.models.get_network(str(reference))
        return build_graph(reference, batch, precision, limit_bytes)

    found = await services.answers.get((reference, batch, precision), make)
    response = answer_bytes(found.content, found.sha256, ONNX, if_none_match)
    return response if response.status_code == 304 else PiecesOf(found, response)


@router.put(
    "/graph",
    summary="Upload the ONNX file of a network of your own model; the first file of a network stays",
    **documented({201: ModelAnswer, 200: ModelAnswer}, "conflict", role="search", body=ONNX),
)
def put_graph(spec: str, principal: Searcher, store: StoreHere, body: Body) -> Response:
    reference = parse_graph_spec(spec)
    if not (isinstance(reference, NetworkGraph) and isinstance(reference.space, Own)):
        raise InvalidValue("spec", "is no network of a user's own model: the server builds all other graphs itself")
    check_model(body)
    sha256 = hashlib.sha256(body).hexdigest()
    store.models.put(sha256, body, principal.token_id)
    is_new = store.models.put_network(str(reference), sha256)
    return answer(ModelAnswer(ModelSummary(sha256, len(body))), 201 if is_new else 200)


@router.put(
    "/models/{sha256}",
    summary="Upload an ONNX file under its SHA-256",
    **documented({201: ModelAnswer, 200: ModelAnswer}, "conflict", role="search", body=ONNX),
)
def put_model(sha256: str, principal: Searcher, store: StoreHere, body: Body) -> Response:
    UploadedModel(sha256)
    if hashlib.sha256(body).hexdigest() != sha256:
        raise InvalidValue("sha256", "is not that of the body")
    check_model(body)
    is_new = store.models.put(sha256, body, principal.token_id)
    return answer(ModelAnswer(ModelSummary(sha256, len(body))), 201 if is_new else 200)
