"""Kernel counts by genotype, and predictions of single networks."""

from __future__ import annotations

from fastapi import APIRouter, Response

from lut_server.http.requests import QuestionBody, parse_body
from lut_server.http.responses import KernelsAnswer, answer
from lut_server.http.services import Reader, StoreHere, documented
from lut_server.runs.kernel_plans import MissingKernelsAnswer, MissingKernelsRequest, find_missing_kernels
from lut_server.tables.predict import PredictionAnswer, PredictionRequest, predict
from shared.runtime import parse_runtime
from shared.spaces import parse_space

router = APIRouter(prefix="/v1", tags=["kernels"])


@router.get(
    "/kernels",
    summary="Kernel counts of the known networks of a space",
    **documented({200: KernelsAnswer}, "unknown_device", "invalid"),
)
def get_kernels(principal: Reader, store: StoreHere, device: str, space: str, runtime: str) -> Response:
    principal.require_device(device)
    store.devices.get(device)
    found = store.kernels.of_space(device, str(parse_runtime(runtime)), str(parse_space(space)))
    return answer(KernelsAnswer(found))


@router.post(
    "/devices/{name}/predict",
    summary="What a device's table says of a network",
    **documented(
        {200: PredictionAnswer}, "unknown_device", "no_table", "unknown_model", role="read", body=PredictionRequest
    ),
)
def predict_network(name: str, principal: Reader, store: StoreHere, body: QuestionBody) -> Response:
    principal.require_device(name)
    store.devices.get(name)  # before the body is read into values: anybody may ask
    return answer(predict(store, name, parse_body(PredictionRequest, body)))


@router.post(
    "/devices/{name}/kernels/missing",
    summary="The kernels of someone's networks that a device's table lacks",
    **documented({200: MissingKernelsAnswer}, "unknown_device", "no_table", role="read", body=MissingKernelsRequest),
)
def get_missing_kernels(name: str, principal: Reader, store: StoreHere, body: QuestionBody) -> Response:
    principal.require_device(name)
    store.devices.get(name)
    return answer(find_missing_kernels(store, name, parse_body(MissingKernelsRequest, body)))
