"""What a route works with, and the check that stands before it: token and role.

Failed authentications are limited per client. A right token passes nevertheless: whoever shares an
address with a guesser goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from lut_server.auth import Authenticator, FailureLimit, Principal
from lut_server.clock import Clock, utc_now
from lut_server.error_codes import STATUS_OF_CODE, refused
from lut_server.http.answer_cache import RETRY_AFTER_S, AnswerCache
from lut_server.http.container_memory import most_bytes
from lut_server.http.metrics import Metrics
from lut_server.http.responses import ErrorAnswer
from lut_server.settings import Settings
from lut_server.store.sql import Store
from shared.errors import AccessDenied, ServerRefused

BEARER = HTTPBearer(auto_error=False, description="A token of `lut-server token create`.")
_ANYONE = Principal("read")
MOST_QUESTION_BYTES = 64 << 20
_TOO_MANY = "too many wrong tokens from {}; try again in {} s"
ANONYMOUS_AT_ONCE = 1
"""Thread that reads for those without a token: the rest is for agents."""
BODIES: set[type] = set()
"""What the routes read from JSON themselves; `documented` adds to it."""


class QuestionRoom:
    """Bodies of questions without a token: so many bytes at a time, and few answered at once."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(1)
        self._bytes = 0

    def take(self, size: int) -> None:
        """Count bytes that arrived, or that are given up (below 0).

        Raises:
            ServerRefused: 503, there are too many.
        """
        if size > 0 and self._bytes + size > most_bytes(MOST_QUESTION_BYTES, 32):
            raise refused("unavailable", "too many questions at a time; try again", RETRY_AFTER_S)
        self._bytes += size


@dataclass(frozen=True)
class Services:
    """All that the routes share.

    Attributes:
        anonymous: who reads without a token takes turns, and holds no thread meanwhile.
        probing: readiness is written down, so it is looked for once at a time.
    """

    settings: Settings
    store: Store
    authenticator: Authenticator
    metrics: Metrics
    failures: FailureLimit
    answers: AnswerCache
    clock: Clock = utc_now
    anonymous: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ANONYMOUS_AT_ONCE))
    questions: QuestionRoom = field(default_factory=QuestionRoom)
    probing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


def services_of(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


async def get_services(request: Request) -> Services:
    """The same, for the framework: what is not a coroutine it would give to a thread."""
    return services_of(request)


async def get_store(request: Request) -> Store:
    return services_of(request).store


ServicesHere = Annotated[Services, Depends(get_services)]
StoreHere = Annotated[Store, Depends(get_store)]


def _require(role: str) -> Callable[..., Awaitable[Principal]]:
    async def check(request: Request) -> Principal:
        # Called here, not as a dependency: the framework takes a tenth of a small GET for each.
        credentials, services = await BEARER(request), services_of(request)
        if credentials is None and "authorization" in request.headers:
            raise refused("unauthorized", "the Authorization header does not read: Bearer TOKEN")
        if credentials is None and role == "read" and services.settings.reads == "open":
            return _ANYONE
        if credentials is None:
            raise refused("unauthorized", f"this needs a token of role {role}: send Authorization: Bearer TOKEN")
        # In a thread of its own: it asks the database.
        principal = await run_in_threadpool(authenticate, services, credentials.credentials, request)
        principal.require(role)
        return principal

    return check


def authenticate(services: Services, token: str, request: Request) -> Principal:
    """Whose token it is; wrong ones count against the client's address.

    Raises:
        AccessDenied: 401, it is none.
        ServerRefused: 429, it is none, as too many from there were.
    """
    try:
        principal = services.authenticator.authenticate(token)
    except AccessDenied as error:
        raise count_failure(services, request, error) from error
    request.state.token, request.state.bound_to = principal.token_id, principal.device
    return principal


def count_failure(services: Services, request: Request, error: ServerRefused) -> ServerRefused:
    """The answer to a wrong token or code: `error`, or 429 after too many from the client's address."""
    client = request.client.host if request.client else "unknown"
    services.metrics.refused_tokens.inc()
    wait_s = services.failures.count(client)
    return refused("rate_limited", _TOO_MANY.format(client, wait_s), wait_s) if wait_s else error


READ, SEARCH, AGENT, ADMIN = _require("read"), _require("search"), _require("agent"), _require("admin")


async def read_in_turn(request: Request) -> AsyncIterator[Principal]:
    """As READ; who has no token waits for a turn."""
    principal = await READ(request)
    if principal.token_id is not None or request.method != "GET":  # a body has still to arrive
        yield principal
        return
    async with turn(request, services_of(request).anonymous):
        yield principal


async def ask_in_turn(request: Request) -> AsyncIterator[None]:
    """As READ, for what is dear to make; strangers have a single place in the queue that agents wait in."""
    if (await READ(request)).token_id is not None:
        yield
        return
    async with turn(request, services_of(request).questions.turns):
        yield


@asynccontextmanager
async def turn(request: Request, turns: asyncio.Semaphore) -> AsyncIterator[None]:
    """Wait for a turn. Who went away meanwhile gets none: else asking and leaving would fill the queue."""
    waits = turns.locked()
    async with turns:
        if waits and await request.is_disconnected():
            raise refused("unavailable", "nobody waits for the answer any more")
        yield


READ_IN_TURN, ASK_IN_TURN = (Depends(wait, scope="function") for wait in (read_in_turn, ask_in_turn))
Reader = Annotated[Principal, READ_IN_TURN]
Searcher = Annotated[Principal, Depends(SEARCH)]
Agent = Annotated[Principal, Depends(AGENT)]
Administrator = Annotated[Principal, Depends(ADMIN)]


def documented(
    success: Mapping[int, type | str | None], *codes: str, role: str | None = "read", body: type | str | None = None
) -> dict[str, Any]:
    """What OpenAPI says of a route: its statuses, the codes of its errors, its role and its body.

    Args:
        success: dataclass, media type or None (no body) by status, the usual one first.
        codes: of its own errors; those of its role and its body are added.
        role: that it needs; None for open to all.
        body: dataclass or media type of the request's body.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for status, kind in success.items():
        if kind is None:
            responses[status] = {"description": "The client has it already."}
        elif isinstance(kind, str):
            content = {kind: {"schema": {"type": "string", "format": "binary"}}}
            responses[status] = {"description": "The file's bytes.", "content": content}
        else:
            responses[status] = {"description": (kind.__doc__ or "").partition("\n")[0], "model": kind}
    errors = {*codes, "internal", "unavailable"}
    errors |= {"unauthorized", "forbidden", "rate_limited"} if role else set()
    errors |= {"invalid_json", "too_slow", "too_large", "unsupported_encoding", "invalid"} if body else set()
    for code in sorted(errors, key=lambda code: (STATUS_OF_CODE[code], code)):
        status = STATUS_OF_CODE[code]
        said = responses.get(status, {}).get("description")
        responses[status] = {"description": f"{said}, {code}" if said else code, "model": ErrorAnswer}
    return {
        "status_code": next(iter(success)),
        "responses": responses,
        "response_model": None,
        "openapi_extra": _extra(role, body),
    }


def _extra(role: str | None, body: type | str | None) -> dict[str, Any]:
    extra: dict[str, Any] = {"x-role": role or "anyone"}
    if role:
        extra["security"] = [{BEARER.scheme_name: []}]
    if isinstance(body, str):
        extra["requestBody"] = {"required": True, "content": {body: {"schema": {"type": "string", "format": "binary"}}}}
    elif body is not None:
        reference = {"$ref": f"#/components/schemas/{body.__name__}"}
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
        extra["x-body"] = body.__name__
        BODIES.add(body)
    return extra
