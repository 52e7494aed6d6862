"""The files that pages load: a style sheet, a script, an icon, and plotly.js from the installed package.

Nothing comes from another server. plotly.js carries its version in its name, so that a browser may keep it for ever.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from shared.errors import LutnasError

_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_OWN = ("style.css", "theme.js", "page.js", "icon.svg")


@dataclass(frozen=True)
class Asset:
    """A file, and the same compressed once for everybody."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str
    is_for_ever: bool


def plotly_name() -> str:
    """The name that plotly.js is served under."""
    return f"plotly-{version('plotly')}.min.js"


@functools.cache
def find_asset(name: str) -> Asset | None:
    """The file of that name, if there is one.

    Raises:
        LutnasError: the installed plotly has no plotly.js.
    """
    if name == plotly_name():
        return read_asset(_plotly_path(), is_for_ever=True)
    return read_asset(_FOLDER / name, is_for_ever=False) if name in _OWN else None


@functools.cache
def weights_kb() -> tuple[int, int]:
    """What a page's own files, and what plotly.js weigh on the wire, in kB."""
    own = [asset for name in _OWN if (asset := find_asset(name)) is not None]
    plotly = find_asset(plotly_name())
    return sum(len(one.compressed) for one in own) // 1000 + 1, len(plotly.compressed if plotly else b"") // 1000


@functools.cache
def style_ids() -> tuple[str, ...]:
    """Elements that plotly.js looks for before it writes styles into the page, which the page's policy forbids."""
    plotly = find_asset(plotly_name())
    found = re.findall(rb'getElementById\("([0-9a-f]{64})"\)', plotly.content if plotly else b"")
    return tuple(sorted({one.decode() for one in found}))


def _plotly_path() -> Path:
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path
    raise LutnasError("the installed plotly brings no plotly.min.js; install the extra `server` again")


def read_asset(path: Path, is_for_ever: bool) -> Asset:
    """A file of the package; its name's end says what it is."""
    content = path.read_bytes()
    compressed = gzip.compress(content, 9, mtime=0)
    return Asset(content, compressed, _MEDIA_TYPES[path.suffix], hashlib.sha256(content).hexdigest(), is_for_ever)
