"""The one error shape: every answer that is an error reads {"error": {"code", "message",
"detail"}}.

Below the routes, errors are those of `shared.errors`; `install` translates them, the framework's
own and the unforeseen ones, here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from lut_server.error_codes import unknown_device
from lut_server.store.database import RETRY_AFTER_S, describe_outage
from shared.errors import (
    InvalidValue,
    LutnasError,
    MissingKernel,
    MissingPrice,
    OtherSchema,
    ServerRefused,
    WrongUse,
    in_one_line,
)
from shared.wire import canonical_json

LOGGER = logging.getLogger("lut_server")

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
_CODE_OF_STATUS = {400: "invalid_json", 404: "not_found", 405: "method_not_allowed"}


def error_answer(
    status: int,
    code: str,
    message: str,
    detail: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error in this shape."""
    line = " ".join(message.split())
    body = canonical_json({"error": {"code": code, "message": line, "detail": dict(detail or {})}})
    extra = dict(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        extra["WWW-Authenticate"] = 'Bearer realm="lutnas"'
    return Response(body, status_code=status, media_type="application/json", headers=extra)


def install(app: FastAPI) -> None:
    """Answer every error in this shape."""
    app.add_exception_handler(LutnasError, _lutnas_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(SQLAlchemyError, _database_error)
    app.add_exception_handler(MemoryError, _no_memory)
    app.add_exception_handler(Exception, _unforeseen)


async def _lutnas_error(request: Request, error: Exception) -> Response:
    bound_to = getattr(request.state, "bound_to", None)
    if bound_to is not None and isinstance(error, ServerRefused) and error.code == "unknown_device":
        error = unknown_device(bound_to, ())  # the names of the others are not for this token
    if isinstance(error, ServerRefused):
        again = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        return error_answer(error.status, error.code, str(error), headers=again)
    if isinstance(error, InvalidValue):
        return error_answer(422, "invalid", str(error), {"field": error.field})
    if isinstance(error, MissingKernel):
        return error_answer(422, "invalid", str(error), {"kernels": error.missing})
    if isinstance(error, MissingPrice):
        return error_answer(422, "invalid", str(error), {"ops": error.missing})
    if isinstance(error, WrongUse | OtherSchema):
        return error_answer(422, "invalid", str(error))
    LOGGER.error("%s %s: %s", request.method, _path(request), error)
    return error_answer(500, "internal", str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODE_OF_STATUS.get(error.status_code, "invalid" if error.status_code < 500 else "internal")
    message = f"{request.method} {request.url.path[:200]}: {error.detail}; /openapi.json lists every route"
    headers = {"Allow": _allowed(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    return error_answer(error.status_code, code, message, headers=headers)


def _allowed(request: Request) -> str:
    """Methods of every route at this path: the framework names those of the first alone."""
    path = request.url.path.removeprefix(request.scope["root_path"])
    documented = request.app.openapi()["paths"].get(path)
    if documented:  # by name: /v1/jobs/lease is no job, though a route of jobs matches it
        return ", ".join(sorted(method.upper() for method in documented))
    asked = ({**request.scope, "method": method} for method in _METHODS)
    return ", ".join(
        scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    )


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"field": ".".join(map(str, problem["loc"])), "problem": str(problem["msg"])} for problem in error.errors()
    ]
    message = "; ".join(f"{problem['field']}: {problem['problem']}" for problem in problems)
    return error_answer(422, "invalid", message, {"problems": problems})


async def _database_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SQLAlchemyError)
    outage = describe_outage(error)
    if outage is None:
        LOGGER.error("%s %s: database", request.method, _path(request), exc_info=error)
        return await _unforeseen(request, error)
    LOGGER.error("%s %s: database: %s", request.method, _path(request), in_one_line(getattr(error, "orig", error)))
    return error_answer(503, "unavailable", outage, headers={"Retry-After": str(RETRY_AFTER_S)})


def _path(request: Request) -> str:
    """For logs: as it came, without line breaks."""
    return str(request.scope["raw_path"].decode("latin-1"))


async def _no_memory(request: Request, _: Exception) -> Response:
    LOGGER.error("%s %s: no memory is left", request.method, _path(request))
    return error_answer(503, "unavailable", "no memory is left; try again", headers={"Retry-After": str(RETRY_AFTER_S)})


async def _unforeseen(_: Request, __: Exception) -> Response:
    # The web framework raises the error again after this answer, so the log gets its traceback.
    return error_answer(500, "internal", "the server failed on this request; its log says why")
