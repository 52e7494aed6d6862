"""Who may see the pages: everybody if reads are open, else whoever signs in with a token.

The token itself is the session. Its cookie is hidden from scripts and from other sites. The API
takes no cookies and pages write nothing, so that a forged request achieves nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from lut_server.http.requests import read_body
from lut_server.http.services import ServicesHere, authenticate, read_in_turn
from lut_server.http.sites import require_own_site
from lut_server.pages.rendering import render
from shared.errors import ServerRefused

COOKIE = "lutnas_token"
_LONGEST_FORM_BYTES = 4096
_LONGEST_FORM_S = 10.0
router = APIRouter()


async def require_viewer(request: Request, services: ServicesHere) -> AsyncIterator[None]:
    """Let a viewer pass: reads are open (then in turn), or the request carries a token, as a cookie or
    as the API takes it.

    Pages show all devices, so a token that is bound to one device does not open them.

    Raises:
        AccessDenied: 401 or 403.
        ServerRefused: 429.
    """
    token = request.cookies.get(COOKIE)
    if services.settings.reads == "open" or "authorization" in request.headers or token is None:
        async with asynccontextmanager(read_in_turn)(request) as reader:
            reader.require_any_device()
            yield
        return
    principal = await run_in_threadpool(authenticate, services, token, request)
    principal.require("read")
    principal.require_any_device()
    yield


async def _form(request: Request) -> dict[str, str]:
    content = await read_body(request, _LONGEST_FORM_BYTES, _LONGEST_FORM_S)
    return {name: values[0] for name, values in parse_qs(content.decode("utf-8", "replace")).items()}


Form = Annotated[dict[str, str], Depends(_form)]


@router.get("/login")
def login_form(request: Request, services: ServicesHere, next: str = "") -> Response:
    root = services.settings.root_path
    if services.settings.reads == "open":
        return RedirectResponse(f"{root}/", 303)
    return render(request, "login.html", 200, next=own_path(next, root), problem=None)


@router.post("/login")
def login(request: Request, services: ServicesHere, form: Form) -> Response:
    root = services.settings.root_path
    target = own_path(form.get("next", ""), root)
    token = form.get("token", "").strip()
    try:
        require_own_site(request)
        principal = authenticate(services, token, request)
        principal.require("read")
        principal.require_any_device()
    except ServerRefused as error:
        return render(request, "login.html", error.status, next=target, problem=str(error))
    response = RedirectResponse(target, 303)
    secure = services.settings.scheme == "https" or request.url.scheme == "https"
    response.set_cookie(COOKIE, token, path=root or "/", httponly=True, samesite="strict", secure=secure)
    return response


@router.post("/logout")
def logout(request: Request, services: ServicesHere) -> Response:
    require_own_site(request)
    root = services.settings.root_path
    response = RedirectResponse(f"{root}/login", 303)
    response.delete_cookie(COOKIE, root or "/", httponly=True, samesite="strict")
    return response


def own_path(target: str, root: str = "") -> str:
    """A path of this server; its first page for anything that a browser could take for another server."""
    is_own = target.startswith(f"{root}/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_own and "\\" not in target else f"{root}/"
