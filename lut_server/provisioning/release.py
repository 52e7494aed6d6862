"""What a device gets: the wheel, the tested versions, and the script that installs them."""

from __future__ import annotations

import functools
import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from lut_server.provisioning.wheel import Wheel, build_wheel
from shared import __version__
from shared.errors import InvalidValue

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
