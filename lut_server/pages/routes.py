"""The pages. Each has a JSON twin at the same address with `format=json`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError

from lut_server.http.services import ServicesHere, StoreHere, services_of
from lut_server.pages import access, assets, plots
from lut_server.pages.comparison import view_comparison
from lut_server.pages.history import view_history
from lut_server.pages.lists import view_device, view_devices, view_jobs, view_search, view_searches
from lut_server.pages.rendering import address, render, show, wants_json
from lut_server.pages.tables import view_networks, view_table
from lut_server.tables.table_facts import FactsReader
from shared.errors import LutnasError, ServerRefused


class Page(APIRoute):
    """A route whose errors are pages. A missing token leads to the form for a token."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        respond = super().get_route_handler()

        async def respond_or_explain(request: Request) -> Response:
            try:
                return await respond(request)
            except (LutnasError, OperationalError, RequestValidationError) as error:
                if wants_json(request):
                    raise
                return _explain(request, error)

        return respond_or_explain


def _explain(request: Request, error: Exception) -> Response:
    if isinstance(error, ServerRefused) and error.status == 401:
        root = services_of(request).settings.root_path
        response = RedirectResponse(f"{root}/login?{urlencode({'next': address(request)})}", 303)
        response.delete_cookie(access.COOKIE, root or "/", httponly=True, samesite="strict")
        return response
    if isinstance(error, OperationalError):
        return render(request, "problem.html", 503, problem="the database does not answer; try again")
    if isinstance(error, RequestValidationError):
        return render(request, "problem.html", 422, problem="a parameter of the address has no valid value")
    status = error.status if isinstance(error, ServerRefused) else 422
    return render(request, "problem.html", status, problem=str(error))


router = APIRouter(route_class=Page)
pages = APIRouter(route_class=Page, dependencies=[Depends(access.require_viewer, scope="function")])


async def _facts(services: ServicesHere, request: Request) -> FactsReader:
    state = request.app.state
    if not hasattr(state, "facts"):
        state.facts = FactsReader(services.store.tables)
    assert isinstance(state.facts, FactsReader)
    return state.facts


Facts = Annotated[FactsReader, Depends(_facts)]


@pages.get("/")
def devices(request: Request, services: ServicesHere, facts: Facts, page: int = 1) -> Response:
    return show(request, "devices.html", view_devices(services.store, facts, services.clock(), page))


@pages.get("/devices/{name}")
def device(request: Request, services: ServicesHere, facts: Facts, name: str, page: int = 1) -> Response:
    return show(request, "device.html", view_device(services.store, facts, services.clock(), name, page))


@pages.get("/tables/{table_hash}")
def table(request: Request, facts: Facts, table_hash: str, page: int = 1, kernels_page: int = 1) -> Response:
    view = view_table(table_hash, facts.get(table_hash), page, kernels_page)
    drawn = [plots.heat_map(view), plots.kinds_of_cost(view)]
    return show(request, "table.html", view, [plot for plot in drawn if plot is not None])


@pages.get("/tables/{table_hash}/networks")
def networks(request: Request, facts: Facts, table_hash: str, page: int = 1) -> Response:
    view = view_networks(table_hash, facts.get(table_hash), page)
    return show(request, "networks.html", view, [plots.predicted_against_measured(view)])


@pages.get("/compare")
def compare(
    request: Request, store: StoreHere, facts: Facts, before: str | None = None, after: str | None = None, page: int = 1
) -> Response:
    view = view_comparison(store, facts, before, after, page)
    return show(request, "compare.html", view, [plots.largest_changes(view)] if view.largest else [])


@pages.get("/history")
def history(
    request: Request, store: StoreHere, facts: Facts, device: str | None = None, op: str | None = None
) -> Response:
    view = view_history(store, facts, device or None, op or None)
    return show(request, "history.html", view, [plots.price_history(view)] if view.entries else [])


@pages.get("/jobs")
def jobs(request: Request, store: StoreHere, state: str | None = None, page: int = 1) -> Response:
    return show(request, "jobs.html", view_jobs(store, state, page))


@pages.get("/searches")
def searches(request: Request, store: StoreHere, page: int = 1) -> Response:
    return show(request, "searches.html", view_searches(store, page))


@pages.get("/searches/{search}")
def search(request: Request, store: StoreHere, search: str) -> Response:
    view = view_search(store, search)
    return show(request, "search.html", view, [plots.accuracy_against_latency(view)])


@router.get("/static/{name}")
def static(request: Request, name: str) -> Response:
    return assets.send_asset(assets.find_asset(name), name, request)


router.include_router(pages)
