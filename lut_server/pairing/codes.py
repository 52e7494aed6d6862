"""One-time codes: `lut-server pair` shows a code, and a phone exchanges it for a token.

A code has 60 random bits, ends after minutes, and a client has ten tries a minute: it cannot be
guessed. The database keeps its SHA-256 only. A slow digest would protect nothing that outlives the
code, and strangers could keep the server busy with it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from lut_server.auth import check_days, make_token
from lut_server.clock import Clock, stamp, utc_now
from lut_server.error_codes import refused
from lut_server.store.sql.pairings import PairingStore
from lut_server.store.values import Pairing
from shared.errors import InvalidValue, ServerRefused
from shared.runtime import check_device_name

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, without the letters that look like digits."""

LONGEST_LIFE_MINUTES = 24 * 60
_SYMBOLS, _GROUP = 12, 4
_LOOK_ALIKES = str.maketrans("OIL", "011", "- \t")
_MOST_TYPED = 100


@dataclass(frozen=True)
class PairRequest:
    """A device's name and its code. Small letters, O for 0 and missing hyphens are accepted."""

    device: str
    code: str

    def __post_init__(self) -> None:
        check_device_name(self.device)
        if not 1 <= len(self.code) <= _MOST_TYPED:
            raise InvalidValue("code", f"is not a text of 1 to {_MOST_TYPED} characters")


@dataclass(frozen=True)
class PairAnswer:
    """The token of the paired device and its end."""

    token: str
    device: str
    expires_at: str | None


@dataclass(frozen=True)
class NewCode:
    """A code to show; only its digest is stored."""

    code: str
    pairing: Pairing


def create_code(
    pairings: PairingStore,
    device: str,
    minutes: float,
    token_days: float,
    clock: Clock = utc_now,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> NewCode:
    """Make a device's code; an earlier code ends.

    Args:
        token_days: how long its token is valid.

    Raises:
        InvalidValue: the name or a time is not valid.
    """
    check_device_name(device)
    if not 0 < minutes <= LONGEST_LIFE_MINUTES:
        raise InvalidValue("minutes", f"{minutes:g} is not above 0 and up to {LONGEST_LIFE_MINUTES}")
    check_days("token-days", token_days)
    code = _spell(int.from_bytes(random_bytes(8)))
    now = clock()
    pairing = Pairing(device, stamp(now), stamp(now + timedelta(minutes=minutes)), token_days)
    pairings.put(pairing, digest_code(device, code))
    return NewCode(code, pairing)


def redeem_code(pairings: PairingStore, request: PairRequest, clock: Clock = utc_now) -> tuple[PairAnswer, str]:
    """A token of role agent for the right code, and the token's id.

    Whoever knows a used code is told which token it gave, so that a theft is noticed.

    Raises:
        AccessDenied: 401, the code is wrong, used or ended.
    """
    digest = digest_code(request.device, request.code)
    found = pairings.find(request.device)
    if found is None or not hmac.compare_digest(digest, found.digest):
        raise _refused(f"this is not the code of '{request.device}'", request.device)
    days = found.pairing.token_days
    made = make_token("agent", "paired", request.device, days=days, clock=clock)
    if not pairings.redeem(request.device, digest, made.record):
        raise _spent(pairings, request.device)
    return PairAnswer(made.text, request.device, made.record.summary.expires_at), made.record.summary.id


def digest_code(device: str, code: str) -> bytes:
    """SHA-256 of device and code; what looks alike is the same code."""
    meant = code.upper().translate(_LOOK_ALIKES)
    return hashlib.sha256(f"pairing\0{device}\0{meant}".encode()).digest()


def _spent(pairings: PairingStore, device: str) -> ServerRefused:
    found = pairings.find(device)
    if found is not None and found.pairing.token is not None:
        return _refused(
            f"this code was used already, for token {found.pairing.token}; if that was not you, run"
            f" `lut-server token revoke {found.pairing.token}`",
            device,
        )
    return _refused("this code has ended", device)


def _refused(why: str, device: str) -> ServerRefused:
    return refused("unauthorized", f"{why}; make a new code: lut-server pair --device {device}")


def _spell(chance: int) -> str:
    symbols = "".join(ALPHABET[chance >> 5 * place & 31] for place in range(_SYMBOLS))
    return "-".join(symbols[start : start + _GROUP] for start in range(0, _SYMBOLS, _GROUP))
