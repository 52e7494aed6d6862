"""Profiling runs: uploaded in batches, finished into a latency table."""

from __future__ import annotations

from fastapi import APIRouter, Response

from lut_server.http.requests import (
    LONGEST_PART,
    Body,
    FinishRun,
    KernelBatch,
    Limit,
    MeasurementBatch,
    Offset,
    parse_body,
)
from lut_server.http.responses import MeasurementsAnswer, RunsAnswer, TableAnswer, answer
from lut_server.http.services import Agent, Reader, StoreHere, documented
from lut_server.runs.active_selection import choose_networks
from lut_server.runs.finish_run import check_run, check_subject, finish_run
from lut_server.store.values import Stored, StoredRun
from shared.errors import InvalidValue
from shared.measurements.active_selection import Choice, ChoiceRequest
from shared.measurements.measurement import Run

router = APIRouter(prefix="/v1/runs", tags=["runs"])


@router.put(
    "/{run_id}",
    summary="Start a run",
    **documented({201: StoredRun, 200: StoredRun}, "unknown_device", "conflict", role="agent", body=Run),
)
def put_run(run_id: str, principal: Agent, store: StoreHere, body: Body) -> Response:
    run = parse_body(Run, body)
    principal.require_device(run.device)
    if run.id != run_id:
        raise InvalidValue("run.id", f"'{run.id}' is not the id in the path, '{run_id[:80]}'")
    check_run(run)
    is_new = store.runs.put(run)
    return answer(store.runs.get(run_id), 201 if is_new else 200)


@router.get("", summary="Runs, in parts", **documented({200: RunsAnswer}, "invalid"))
def list_runs(
    principal: Reader, store: StoreHere, device: str | None = None, offset: Offset = 0, limit: Limit = LONGEST_PART
) -> Response:
    return answer(RunsAnswer(store.runs.list(principal.which_device(device), offset=offset, limit=limit)))


@router.get("/{run_id}", summary="A run and how far it is", **documented({200: StoredRun}, "unknown_run"))
def get_run(run_id: str, principal: Reader, store: StoreHere) -> Response:
    found = store.runs.get(run_id)
    principal.require_device(found.run.device)
    return answer(found)


@router.post(
    "/{run_id}/measurements",
    summary="Upload a batch of measurements: all of it is stored, or nothing",
    **documented({200: Stored}, "unknown_run", "conflict", role="agent", body=MeasurementBatch),
)
def add_measurements(run_id: str, principal: Agent, store: StoreHere, body: Body) -> Response:
    run = store.runs.get_run(run_id)
    principal.require_device(run.device)
    batch = parse_body(MeasurementBatch, body).measurements
    for measurement in batch:
        check_subject(run.space, measurement.role, measurement.subject, measurement.graph, measurement.minus)
    return answer(store.runs.add_measurements(run_id, batch))


@router.get(
    "/{run_id}/measurements",
    summary="All measurements of a run with their raw values",
    **documented({200: MeasurementsAnswer}, "unknown_run"),
)
def get_measurements(run_id: str, principal: Reader, store: StoreHere) -> Response:
    principal.require_device(store.runs.get_run(run_id).device)
    return answer(MeasurementsAnswer(store.runs.measurements(run_id)))


@router.put(
    "/{run_id}/kernels",
    summary="Say which kernels the runtime executes for graphs of a run",
    **documented({200: Stored}, "unknown_run", role="agent", body=KernelBatch),
)
def put_kernels(run_id: str, principal: Agent, store: StoreHere, body: Body) -> Response:
    run = store.runs.get_run(run_id)
    principal.require_device(run.device)
    return answer(store.kernels.put(run.device, str(run.runtime), parse_body(KernelBatch, body).counts))


@router.post(
    "/{run_id}/next",
    summary="Which calibration networks to measure next, and whether the bound is narrow enough",
    **documented({200: Choice}, "unknown_run", role="agent", body=ChoiceRequest),
)
def choose_next(run_id: str, principal: Agent, store: StoreHere, body: Body) -> Response:
    run = store.runs.get_run(run_id)
    principal.require_device(run.device)
    return answer(choose_networks(store, run, parse_body(ChoiceRequest, body)))


@router.post(
    "/{run_id}/finish",
    summary="Calibrate the run's latency table; again gives the same table",
    **documented({200: TableAnswer}, "unknown_run", "conflict", role="agent", body=FinishRun),
)
def finish(run_id: str, principal: Agent, store: StoreHere, body: Body) -> Response:
    run = store.runs.get_run(run_id)
    principal.require_device(run.device)
    request = parse_body(FinishRun, body)
    return answer(TableAnswer(finish_run(store, run, request.plan, request.chosen)))
