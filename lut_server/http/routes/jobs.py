"""The job queue: a search asks, the device's agent leases it, measures and hands in."""

from __future__ import annotations

from fastapi import APIRouter, Response

from lut_server.http.requests import LONGEST_PART, Body, HandIn, Heartbeat, LeaseRequest, Limit, Offset, parse_body
from lut_server.http.responses import JobAnswer, JobsAnswer, LeaseAnswer, ResultAnswer, answer
from lut_server.http.services import Agent, Reader, Searcher, StoreHere, documented
from lut_server.runs.job_results import prepare_job, store_result
from shared.errors import InvalidValue
from shared.jobs import JOB_STATES, NewJob

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post(
    "",
    summary="Queue a job",
    **documented(
        {201: JobAnswer}, "unknown_device", "unknown_model", "no_table", "conflict", role="search", body=NewJob
    ),
)
def add_job(principal: Searcher, store: StoreHere, body: Body) -> Response:
    job = parse_body(NewJob, body)
    principal.require_device(job.device)
    return answer(JobAnswer(store.jobs.add(prepare_job(store, job), principal.token_id)), 201)


@router.get("", summary="Jobs, in parts", **documented({200: JobsAnswer}, "invalid"))
def list_jobs(
    principal: Reader,
    store: StoreHere,
    device: str | None = None,
    state: str | None = None,
    offset: Offset = 0,
    limit: Limit = LONGEST_PART,
) -> Response:
    if state and state not in JOB_STATES:
        raise InvalidValue("state", f"'{state[:40]}' is none of {', '.join(JOB_STATES)}")
    own = principal.which_device(device)
    return answer(JobsAnswer(store.jobs.list(own, state or None, offset=offset, limit=limit)))


@router.post(
    "/lease",
    summary="Ask for work",
    **documented({200: LeaseAnswer}, "unknown_device", role="agent", body=LeaseRequest),
)
def lease(principal: Agent, store: StoreHere, body: Body) -> Response:
    request = parse_body(LeaseRequest, body)
    principal.require_device(request.device)
    return answer(LeaseAnswer(store.jobs.lease(request.device, request.owner, request.lease_s, request.status)))


@router.get("/{job_id}", summary="A job", **documented({200: JobAnswer}, "unknown_job"))
def get_job(job_id: str, principal: Reader, store: StoreHere) -> Response:
    job = store.jobs.get(job_id)
    principal.require_device(job.job.device)
    return answer(JobAnswer(job))


@router.get(
    "/{job_id}/result",
    summary="What was handed in for a job, raw values and all",
    **documented({200: ResultAnswer}, "unknown_job"),
)
def get_result(job_id: str, principal: Reader, store: StoreHere) -> Response:
    principal.require_device(store.jobs.get(job_id).job.device)
    return answer(ResultAnswer(store.jobs.find_result(job_id)))


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job that is not over",
    **documented({200: JobAnswer}, "unknown_job", "conflict", role="search"),
)
def cancel(job_id: str, principal: Searcher, store: StoreHere) -> Response:
    principal.require_device(store.jobs.get(job_id).job.device)
    return answer(JobAnswer(store.jobs.cancel(job_id)))


@router.post(
    "/{job_id}/requeue",
    summary="Queue a failed, dead or cancelled job again",
    **documented({200: JobAnswer}, "unknown_job", "conflict", role="search"),
)
def requeue(job_id: str, principal: Searcher, store: StoreHere) -> Response:
    principal.require_device(store.jobs.get(job_id).job.device)
    return answer(JobAnswer(store.jobs.requeue(job_id)))


@router.post(
    "/{job_id}/heartbeat",
    summary="Extend a lease",
    **documented({200: JobAnswer}, "unknown_job", "conflict", role="agent", body=Heartbeat),
)
def heartbeat(job_id: str, principal: Agent, store: StoreHere, body: Body) -> Response:
    principal.require_device(store.jobs.get(job_id).job.device)
    beat = parse_body(Heartbeat, body)
    return answer(JobAnswer(store.jobs.heartbeat(job_id, beat.owner, beat.lease_s, beat.status)))


@router.post(
    "/{job_id}/result",
    summary="Hand in a result; a late one counts too",
    **documented({200: JobAnswer}, "unknown_job", "unknown_run", "conflict", role="agent", body=HandIn),
)
def put_result(job_id: str, principal: Agent, store: StoreHere, body: Body) -> Response:
    job = store.jobs.get(job_id).job
    principal.require_device(job.device)
    return answer(JobAnswer(store_result(store, job_id, job, parse_body(HandIn, body).result)))
