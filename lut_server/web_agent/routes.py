"""`/agent/web`: the page that measures the device it is open on, its scripts, and onnxruntime-web.

All of it is open to anybody and holds nothing: what writes is the API, with the token that the page is paired for.

The page is cross-origin isolated (COOP, COEP) where its address can be, over HTTPS or on localhost: only then does a
browser give it threads and a clock finer than 100 us. Its policy lets it load and connect to nothing but this server,
and compile WebAssembly.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.responses import FileResponse

from lut_server.http.responses import answer
from lut_server.http.services import ServicesHere
from lut_server.pages.assets import Asset, read_asset
from lut_server.web_agent.web_runtime import FILES, VERSION, find_runtime, missing_line, runtime_folder
from shared import __version__
from shared.errors import NotFound
from shared.spaces import SPACES, make_space
from shared.spaces.space import SKELETON_SIDES

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'self'; frame-ancestors 'none'",
}
_FOLDER = Path(__file__).parent / "static"
_OWN = frozenset(path.name for path in _FOLDER.iterdir())
WASM = "application/wasm"
_RUNTIME_TYPES = {".mjs": "text/javascript", ".wasm": WASM}
router = APIRouter(prefix="/agent/web")


@router.get("")
def page(
    accept_encoding: Annotated[str, Header()] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    return _serve("index.html", accept_encoding, if_none_match)


@router.get("/settings.json")
def settings(services: ServicesHere) -> Response:
    """What the page has to know: versions, spaces with their own sizes, and where onnxruntime-web is."""
    folder = runtime_folder(services.settings)
    found = find_runtime(folder)
    runtime = None if found is None else {"version": VERSION, "base": f"/agent/web/onnxruntime-web-{VERSION}"}
    told = {
        "version": __version__,
        "runtime": runtime,
        "problem": missing_line(folder) if runtime is None else None,
        "spaces": {name: _sides(name) for name in SPACES},
    }
    response = answer(told)
    response.headers.update(HEADERS)
    return response


@router.get("/{name}")
def own_file(
    name: str,
    accept_encoding: Annotated[str, Header()] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    return _serve(name, accept_encoding, if_none_match)


@router.get("/onnxruntime-web-{version}/{name}")
def runtime_file(
    services: ServicesHere, version: str, name: str, accept_encoding: Annotated[str, Header()] = ""
) -> Response:
    folder = runtime_folder(services.settings)
    found = find_runtime(folder)
    if version != VERSION or name not in FILES or found is None:
        raise NotFound(missing_line(folder) if found is None else f"there is no file {name[:80]}", 404, "not_found")
    headers = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    path = found / name
    if "gzip" in accept_encoding and (found / f"{name}.gz").is_file():
        headers["Content-Encoding"], path = "gzip", found / f"{name}.gz"
    return FileResponse(path, media_type=_RUNTIME_TYPES[Path(name).suffix], headers=headers)


def _serve(name: str, accept_encoding: str, if_none_match: str) -> Response:
    asset = _find(name)
    if asset is None:
        raise NotFound(f"there is no file {name[:80]}", 404, "not_found")
    etag = f'"{asset.etag}"'
    headers = HEADERS | {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if etag in if_none_match:
        return Response(status_code=304, headers=headers)
    if "gzip" in accept_encoding:
        headers["Content-Encoding"] = "gzip"
        return Response(asset.compressed, media_type=asset.media_type, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@functools.cache
def _find(name: str) -> Asset | None:
    return read_asset(_FOLDER / name, is_for_ever=False) if name in _OWN else None


def _sides(name: str) -> dict[str, Any]:
    sides = dataclasses.asdict(make_space(name))
    return {side: sides[side] for side in SKELETON_SIDES}
