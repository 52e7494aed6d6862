"""The web application: routes, error shape, compression and OpenAPI document, over one store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from lut_server.addresses import is_loopback
from lut_server.auth import Authenticator, FailureLimit
from lut_server.clock import Clock, utc_now
from lut_server.http import error_handlers
from lut_server.http.answer_cache import AnswerCache
from lut_server.http.metrics import Metrics
from lut_server.http.request_log import AuditLog, Watch
from lut_server.http.routes import (
    agent_files,
    archive,
    devices,
    health,
    jobs,
    kernels,
    pairing,
    plans,
    runs,
    searches,
    tables,
    tokens,
)
from lut_server.http.services import BEARER, BODIES, Services
from lut_server.http.sites import HostCheck
from lut_server.pages import access
from lut_server.pages import routes as pages
from lut_server.settings import Settings, split_names
from lut_server.store.sql import Store, open_store
from lut_server.web_agent import routes as web_agent
from shared import __version__

_DESCRIPTION = "Latency tables measured on devices. docs/api.md says what each route takes and gives."


def create_app(settings: Settings, clock: Clock = utc_now, store: Store | None = None) -> FastAPI:
    """Build the application. Without a store it opens that of `settings.database_url`.

    Raises:
        OtherSchema: another lutnas made the database's tables.
        LutnasError: the database cannot be opened.
    """
    kept = open_store(settings.database_url, clock) if store is None else store

    audit, metrics = AuditLog(settings.audit_log, clock), Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The framework builds a router's routes when it is first asked. Until all are built, which takes seconds on a
        # small machine, nobody gets an answer: so before the server listens.
        for route in app.routes:
            route.matches({"type": "http", "method": "GET", "path": "/", "root_path": ""})
        yield
        audit.close()
        kept.close()

    # The interactive pages load scripts from elsewhere; the document itself is at /openapi.json.
    app = FastAPI(
        title="lut-server",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        separate_input_output_schemas=False,
        redirect_slashes=False,
    )
    authenticator = Authenticator(kept.tokens, clock=clock)
    app.state.services = Services(settings, kept, authenticator, metrics, FailureLimit(), AnswerCache(), clock)
    # The framework tries one after the other: what is asked for most often comes first.
    api = tables, health, tokens, devices, plans, runs, kernels, jobs, searches, archive, pairing, agent_files
    for module in api:
        app.include_router(module.router)
    for router in (access.router, pages.router, web_agent.router):
        app.include_router(router, include_in_schema=False)
    error_handlers.install(app)
    # Random weights do not compress: ONNX files go out as they are.
    app.add_middleware(
        GZipMiddleware, compresslevel=5, exclude_content_types=(plans.ONNX, archive.GZIP, web_agent.WASM)
    )

    framework = app.build_middleware_stack
    # The outermost of all: what the framework itself answers to an unforeseen error passes through
    # it too.
    app.build_middleware_stack = lambda: Watch(  # type: ignore[method-assign]
        _checked(framework(), settings), metrics, audit, secure=bool(settings.tls_cert), log_format=settings.log_format
    )
    app.openapi = lambda: _openapi(app, settings.reads)  # type: ignore[method-assign]
    return app


def _checked(app: ASGIApp, settings: Settings) -> ASGIApp:
    allowed = split_names(settings.allowed_hosts)
    is_open = "*" in allowed or not (allowed or is_loopback(settings.host))
    return app if is_open else HostCheck(app, allowed)


def _openapi(app: FastAPI, reads: str) -> dict[str, Any]:
    """FastAPI's document, with the bodies that the routes read themselves."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        scheme = BEARER.model.model_dump(mode="json", by_alias=True, exclude_none=True)
        document["components"]["securitySchemes"] = {BEARER.scheme_name: scheme}
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for operation in (operation for path in document["paths"].values() for operation in path.values()):
            # FastAPI adds it to every route with a parameter; ours are text, always valid, or say
            # so themselves.
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            if operation.get("x-role") == "read" and reads == "open":
                operation["security"] = [*operation.get("security", []), {}]
        for kind in sorted(BODIES, key=lambda kind: kind.__name__):
            schema = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
            for name, definition in schema.pop("$defs", {}).items():
                schemas.setdefault(name, definition)
            schemas.setdefault(kind.__name__, schema)
        app.openapi_schema = document
    return app.openapi_schema
