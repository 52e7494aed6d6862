"""The files that pages load: style sheet, scripts, icon, and plotly.js from the installed package.

Nothing comes from another server. The name of plotly.js holds its version, so that a browser may
keep it for ever.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path

from fastapi import Request, Response

from shared.errors import LutnasError, NotFound

FOR_EVER = "public, max-age=31536000, immutable"
_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_OWN = ("style.css", "theme.js", "page.js", "icon.svg")


@dataclass(frozen=True)
class Asset:
    """A file, as it is and compressed."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str
    cache_control: str


def read_asset(path: Path, cache_control: str = "no-cache", root_path: str = "") -> Asset:
    """A file of the package; its suffix gives the media type. HTML's own links lead below `root_path`."""
    content = path.read_bytes()
    if path.suffix == ".html":
        content = content.replace(b'href="/', b'href="%s/' % root_path.encode())
    compressed = gzip.compress(content, 9, mtime=0)
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    return Asset(content, compressed, _MEDIA_TYPES[path.suffix], etag, cache_control)


def send_asset(asset: Asset | None, name: str, request: Request, extra: Mapping[str, str] | None = None) -> Response:
    """The file, compressed if the browser reads that; 304 if the browser has it.

    Raises:
        NotFound: there is no such file.
    """
    if asset is None:
        raise NotFound(f"there is no file {name[:80]}", 404, "not_found")
    headers = {"ETag": asset.etag, "Cache-Control": asset.cache_control, "Vary": "Accept-Encoding", **(extra or {})}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(asset.content, media_type=asset.media_type, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(asset.compressed, media_type=asset.media_type, headers=headers)


def plotly_name() -> str:
    return f"plotly-{version('plotly')}.min.js"


def find_asset(name: str) -> Asset | None:
    """The file of that name, if there is one.

    Raises:
        LutnasError: the installed plotly has no plotly.js.
    """
    # Only what is there is remembered: strangers may ask for any number of other names.
    return read_known(name) if name in _OWN or name == plotly_name() else None


@functools.cache
def read_known(name: str) -> Asset:
    """A file that is there, read once.

    Raises:
        LutnasError: the installed plotly has no plotly.js.
    """
    if name == plotly_name():
        path = Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
        if not path.is_file():
            raise LutnasError("the installed plotly has no plotly.min.js; install the extra `server` again")
        return read_asset(path, FOR_EVER)
    return read_asset(_FOLDER / name)


@functools.cache
def style_ids() -> tuple[str, ...]:
    """Elements that keep plotly.js from writing styles, which the page's policy forbids."""
    plotly = find_asset(plotly_name())
    found = re.findall(rb'getElementById\("([0-9a-f]{64})"\)', plotly.content if plotly else b"")
    return tuple(sorted({id_.decode() for id_ in found}))
