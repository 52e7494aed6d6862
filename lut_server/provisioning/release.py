"""What a device gets: the wheel, the tested versions, and the script that installs them.

The wheel is made from the installed files: an agent gets the server's version. The same files
always make the same bytes, from a wheel or a checkout (`pip install -e`): names are sorted, dates
and modes fixed, and nothing is compressed (versions of zlib differ).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from shared import __version__
from shared.errors import InvalidValue, LutnasError

NAME = "lutnas"
PACKAGES = ("profiler_agent", "lut_server", "search", "shared")
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_WHEEL = f"Wheel-Version: 1.0\nGenerator: {NAME}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class Wheel:
    """File name, bytes, and their SHA-256."""

    name: str
    content: bytes
    sha256: str


def build_wheel() -> Wheel:
    """The wheel of the installed lutnas.

    Raises:
        LutnasError: lutnas is not installed, or another version is.
    """
    files = dict(_metadata_files(_distribution()))
    for package in PACKAGES:
        files.update(_package_files(package))
    content = _archive(files)
    return Wheel(f"{NAME}-{__version__}-py3-none-any.whl", content, hashlib.sha256(content).hexdigest())


def _distribution() -> Distribution:
    try:
        found = distribution(NAME)
    except PackageNotFoundError as error:
        raise LutnasError(f"{NAME} is not installed here, so it has no wheel; install it with pip") from error
    if found.version != __version__:
        raise LutnasError(
            f"{NAME} {__version__} runs here, but {found.version} is installed; install it again with pip"
        )
    return found


def _metadata_files(installed: Distribution) -> Iterator[tuple[str, bytes]]:
    """The installed metadata of lutnas, without those of its installation."""
    folder = f"{NAME}-{__version__}.dist-info"
    for path in installed.files or ():
        if path.parts[0] == folder and (path.name in ("METADATA", "entry_points.txt") or path.parts[1] == "licenses"):
            yield path.as_posix(), path.read_binary()
    yield f"{folder}/WHEEL", _WHEEL.encode()


def _package_files(package: str) -> Iterator[tuple[str, bytes]]:
    """The files of a package but compiled ones, without importing it."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in Path(folder).rglob("*"):
            inside = path.relative_to(folder)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
            if path.is_file() and not hidden and path.suffix != ".pyc":
                yield f"{package}/{inside.as_posix()}", path.read_bytes()


def _archive(files: dict[str, bytes]) -> bytes:
    """A zip file, its RECORD last as the wheel format says."""
    record = f"{NAME}-{__version__}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(files.items())]
    content = "\n".join([*lines, f"{record},,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        # Packages first: tools read metadata at the end.
        for name in sorted(files, key=lambda name: (".dist-info/" in name, name)):
            _write(archive, name, files[name])
        _write(archive, record, content)
    return buffer.getvalue()


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = 3, _MODE
    archive.writestr(entry, content)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


_FOLDER = Path(__file__).parent
_URL = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True)
class Release:
    """The files of a version. The script holds the SHA-256 of the other two."""

    wheel: Wheel
    constraints: bytes
    template: str

    def script(self, url: str) -> str:
        """The script for a device that reaches the server at `url`.

        Raises:
            InvalidValue: `url`, from a request's header, is no plain address.
        """
        values = {
            "SERVER": check_url(url),
            "VERSION": __version__,
            "WHEEL": self.wheel.name,
            "WHEEL_SHA256": self.wheel.sha256,
            "CONSTRAINTS_SHA256": hashlib.sha256(self.constraints).hexdigest(),
        }
        return re.sub(r"@([A-Z0-9_]+)@", lambda found: shlex.quote(values[found.group(1)]), self.template)


def read_template() -> str:
    """install.sh with its programs for the device's Python."""

    def read(found: re.Match[str]) -> str:
        return (_FOLDER / "on_device" / found.group(1)).read_text(encoding="utf-8")

    text = (_FOLDER / "install.sh").read_text(encoding="utf-8")
    return re.sub(r"^@INCLUDE (\w+\.py)@\n", read, text, flags=re.MULTILINE)


def check_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        InvalidValue: it is no plain address.
    """
    plain = url.rstrip("/")
    if not _URL.fullmatch(plain):
        raise InvalidValue("host", f"'{plain[:100]}' is no address of a server")
    return plain


@functools.cache
def get_release() -> Release:
    """This server's release, made at the first request.

    Raises:
        LutnasError: lutnas is not installed here, so there is no wheel.
    """
    constraints = (_FOLDER / "agent-constraints.txt").read_bytes()
    return Release(build_wheel(), constraints, read_template())
