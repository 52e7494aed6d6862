"""`/agent/web`: the page that measures its own device, its scripts, and onnxruntime-web.

The files are public and hold nothing secret. The page writes through the API, with its own token.

Over HTTPS or on localhost the page is cross-origin isolated (COOP, COEP): only then a browser gives
it threads and a clock finer than 100 us. Its policy allows WebAssembly, and this server only.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import FileResponse

from lut_server.http.responses import answer
from lut_server.http.services import ServicesHere
from lut_server.pages.assets import FOR_EVER, Asset, read_asset, send_asset
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


@router.get("/settings.json")
def settings(services: ServicesHere) -> Response:
    """Versions, the spaces with their default sizes, and the address of onnxruntime-web."""
    folder = runtime_folder(services.settings)
    found = find_runtime(folder)
    base = f"{services.settings.root_path}/agent/web/onnxruntime-web-{VERSION}"
    runtime = None if found is None else {"version": VERSION, "base": base}
    said = {
        "version": __version__,
        "runtime": runtime,
        "problem": missing_line(folder) if runtime is None else None,
        "spaces": {name: _sides(name) for name in SPACES},
    }
    response = answer(said)
    response.headers.update(HEADERS)
    return response


@router.get("")
@router.get("/{name}")
def own_file(request: Request, services: ServicesHere, name: str = "index.html") -> Response:
    # Only what is there is remembered: strangers may ask for any number of other names.
    asset = read_own(name, services.settings.root_path) if name in _OWN else None
    return send_asset(asset, name, request, HEADERS)


@router.get("/onnxruntime-web-{version}/{name}")
def runtime_file(
    services: ServicesHere, version: str, name: str, accept_encoding: Annotated[str, Header()] = ""
) -> Response:
    folder = runtime_folder(services.settings)
    found = find_runtime(folder)
    if version != VERSION or name not in FILES or found is None:
        raise NotFound(missing_line(folder) if found is None else f"there is no file {name[:80]}", 404, "not_found")
    headers = HEADERS | {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
    path = found / name
    if "gzip" in accept_encoding and (found / f"{name}.gz").is_file():
        headers["Content-Encoding"], path = "gzip", found / f"{name}.gz"
    return FileResponse(path, media_type=_RUNTIME_TYPES[Path(name).suffix], headers=headers)


@functools.cache
def read_own(name: str, root_path: str) -> Asset:
    """A file of the page, read once."""
    return read_asset(_FOLDER / name, root_path=root_path)


def _sides(name: str) -> dict[str, Any]:
    sides = dataclasses.asdict(make_space(name))
    return {side: sides[side] for side in SKELETON_SIDES}
