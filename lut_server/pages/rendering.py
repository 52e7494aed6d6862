"""Renders a view as a page, or as JSON.

A view is a frozen dataclass; its template has the same name. Templates escape everything: names and
probes come from agents, reasons from anywhere.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from lut_server.http.responses import answer
from lut_server.http.services import Services
from lut_server.pages import assets
from shared import __version__

SECURITY = {
    # Plotly draws a heat map's cells as a data: image and clears a style attribute, which the hash
    # (of the empty style) allows. All else comes from this server.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-hashes' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}
NAVIGATION = {
    "/": "Devices", "/compare": "Compare", "/history": "History", "/jobs": "Jobs", "/searches": "Searches",
}  # fmt: skip


def wants_json(request: Request) -> bool:
    return request.query_params.get("format") == "json"


def show(request: Request, template: str, view: Any, plots: list[dict[str, Any]] | None = None) -> Response:
    """The page of a view, or its JSON twin."""
    if wants_json(request):
        return answer(view)
    return render(request, template, 200, view=view, plots=plots or [], twin=address(request, format="json"))


def render(request: Request, template: str, status: int, **values: Any) -> Response:
    """A page of a template."""
    services: Services = request.app.state.services
    closed = services.settings.reads != "open"
    html = _environment().get_template(template).render(
        **{"plots": [], "twin": None, "view": None} | values,
        root=services.settings.root_path,
        path=request.url.path.removeprefix(services.settings.root_path),
        here=functools.partial(address, request),
        now=services.clock(),
        navigation=NAVIGATION,
        closed=closed,
        plotly=assets.plotly_name(),
        style_ids=assets.style_ids(),
        version=__version__,
    )  # fmt: skip
    headers = SECURITY | {"Cache-Control": "no-store" if closed else "no-cache"}
    return HTMLResponse(html, status_code=status, headers=headers)


def address(request: Request, **changes: Any) -> str:
    """The page's own address with changed parameters; None removes a parameter."""
    parameters = {**request.query_params, **changes}
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{request.url.path}?{query}" if query else request.url.path


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lut_server.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ms": _ms,
        "percent": lambda value: "–" if value is None else f"{value:.1f} %",
        "moment": lambda text: f"{text[:10]} {text[11:16]}",
        "ago": _ago,
        "short": lambda text: text[:10],
        "celsius": lambda value: "not told" if value is None else f"{value:.0f} °C",
    }
    return environment


def _ms(value: float | None) -> str:
    """Four significant digits: an interval is hardly ever narrower."""
    return "–" if value is None else f"{value:#.4g}".rstrip(".")


def _ago(text: str | None, now: datetime) -> str:
    """The time since, in the largest unit that gives a whole number above 1."""
    if not text:
        return "never"
    try:
        seconds = (now - datetime.fromisoformat(text)).total_seconds()
    except (ValueError, TypeError):
        return text
    for size_s, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size_s:
            return f"{int(seconds // size_s)} {unit} ago"
    return f"{int(seconds)} s ago" if seconds >= 5 else "now"
