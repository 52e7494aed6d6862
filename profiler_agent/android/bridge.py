"""adb: which phones are connected, and programs on one of them.

The forms are from adb's sources (platform-tools 29 to 35): `adb devices -l` pads the serial number,
a state may have words in brackets after it, and connection problems are on stderr behind "error:"
or "adb:".
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import InvalidValue, LutnasError, in_one_line

TIMEOUT_S = 120.0
READY = "device"
WHAT_TO_DO = {
    "unauthorized": "unlock the phone and allow USB debugging for this computer, then run the same again",
    "offline": "plug the phone in again, or switch USB debugging off and on",
    "no permissions": "this user may not use the USB device: install the udev rules"
    " (Debian: apt-get install android-sdk-platform-tools-common), then plug the phone in again",
    **dict.fromkeys(("authorizing", "connecting"), "wait a moment, then run the same again"),
    **dict.fromkeys(("recovery", "sideload", "bootloader"), "start Android on it"),
}
NO_PHONE = (
    "no phone is connected: plug it in with a cable that carries data, and switch USB debugging on"
    " (Settings > About phone: tap the build number seven times; then System > Developer options)"
)
_GONE = re.compile(
    r"^(error|adb): (?:error: )?"
    r"(device '[^']*' not found|device not found|no devices/emulators found|device offline|device unauthorized"
    r"|device still (?:connecting|authorizing)|closed|protocol fault|connection reset|failed to get feature set)",
    re.MULTILINE,
)


class PhoneAway(LutnasError):
    """The phone is out of reach: the cable, or its permission. It may come back."""


@dataclass(frozen=True)
class ProgramResult:
    """Exit code and output of a program."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True)
class AttachedPhone:
    """A phone in `adb devices -l`."""

    serial: str
    state: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.serial} ({self.model or self.state})"


def run_program(command: Sequence[str], stdin: bytes | None = None) -> ProgramResult:
    """Run a program to its end.

    Raises:
        LutnasError: it is not here, or does not end.
    """
    try:
        done = subprocess.run(command, input=stdin or b"", capture_output=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        package = {"adb": "adb", "ssh": "openssh-client"}.get(command[0], command[0])
        raise LutnasError(f"{command[0]} is not here: install it (Debian: apt-get install {package})") from error
    except subprocess.TimeoutExpired as error:
        raise PhoneAway(f"{command[0]} did not end within {TIMEOUT_S:g} s") from error
    return ProgramResult(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


class Adb:
    """adb, for one phone."""

    def __init__(self, serial: str) -> None:
        self.serial = serial

    def run(self, *arguments: str, stdin: bytes | None = None) -> ProgramResult:
        """Run an adb command for the phone.

        Raises:
            PhoneAway: it is not there, or went away meanwhile.
        """
        done = run_program(["adb", "-s", self.serial, *arguments], stdin)
        gone = _GONE.search(done.err) if done.code else None
        if gone:
            raise PhoneAway(f"the phone {self.serial} went away ({gone[2]})")
        return done

    def shell(self, script: str, stdin: bytes | None = None) -> ProgramResult:
        """Run a script as Android's shell user, without a terminal: bytes pass unchanged."""
        return self.run("shell", "-T", script, stdin=stdin)

    def read(self, script: str) -> str:
        """Output of a script; empty if it fails."""
        done = self.shell(script)
        return done.out.decode(errors="replace") if done.code == 0 else ""


def list_attached() -> list[AttachedPhone]:
    """Phones that adb knows of.

    Raises:
        LutnasError: adb is not here, or its server does not start.
    """
    done = run_program(["adb", "devices", "-l"])
    _, header, listed = done.out.decode(errors="replace").replace("\r\n", "\n").partition("List of devices attached\n")
    if done.code or not header:
        problem = in_one_line(done.err) or "no list"
        raise LutnasError(f"adb does not list its devices: {problem}; try `adb kill-server`")
    return [found for line in listed.splitlines() if (found := _parse(line)) is not None]


def choose_phone(attached: Sequence[AttachedPhone], serial: str | None) -> AttachedPhone:
    """The phone to measure.

    Raises:
        InvalidValue: several phones and no name, or the named phone is not connected.
        LutnasError: no phone, or it is not ready; says what to do.
    """
    if not attached:
        raise LutnasError(NO_PHONE)
    names = ", ".join(map(str, attached))
    if serial is None and len(attached) > 1:
        raise InvalidValue("--serial", f"several phones are connected, name one of them: {names}")
    chosen = next((phone for phone in attached if serial in (None, phone.serial)), None)
    if chosen is None:
        raise InvalidValue("--serial", f"no phone {serial} is connected (connected: {names})")
    if chosen.state != READY:
        what = WHAT_TO_DO.get(chosen.state, "see `adb devices -l`")
        raise LutnasError(f"the phone {chosen.serial} is {chosen.state}: {what}")
    return chosen


def _parse(line: str) -> AttachedPhone | None:
    words = line.split()
    if len(words) < 2 or line.startswith("*"):
        return None
    state = "no permissions" if words[1:3] == ["no", "permissions"] or words[2:3] == ["permissions"] else words[1]
    model = next((word.removeprefix("model:") for word in words if word.startswith("model:")), "")
    return AttachedPhone(words[0], state, model.replace("_", " "))
