"""Tokens and roles: who may do what, and on which device.

A token reads `lut_ID_SECRET`. The id finds the record; the secret is checked against its salted
digest. A fast digest is enough: a secret has 256 random bits, which nobody guesses, and a slow
digest would let strangers take the server's time. Revoking works at once, because the record is
read on every request.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lut_server.clock import Clock, stamp, utc_now
from lut_server.error_codes import refused
from lut_server.store.sql.tokens import TokenStore
from lut_server.store.values import TokenRecord, TokenSummary
from shared.errors import InvalidValue
from shared.runtime import check_device_name

ROLES = ("read", "search", "agent", "admin")
"""Each role may do what the ones before it may."""

_TOKEN = re.compile(r"lut_([0-9a-f]{12})_([A-Za-z0-9_-]{20,100})")
LONGEST_LIFE_DAYS = 3650
MOST_FAILURES = 10
WINDOW_S = 60.0
_REMEMBERED_CLIENTS = 10_000
USE_NOTED_EVERY_S = 60.0
"""A write per request would be a write per read."""


@dataclass(frozen=True)
class Principal:
    """Who makes a request. A principal with a `device` sees it alone and acts for it alone."""

    role: str
    device: str | None = None
    token_id: str | None = None

    def require(self, role: str) -> None:
        """Raise AccessDenied (403) unless the role suffices."""
        if ROLES.index(self.role) < ROLES.index(role):
            raise refused("forbidden", f"this needs a token of role {role}; this one has role {self.role}")

    def require_device(self, device: str) -> None:
        """Raise AccessDenied (403) unless the principal may act for the device, and see it."""
        if self.device is not None and self.device != device:
            # Without the other's name: it may come from a run or a job that was asked for by its id.
            problem = f"this token is bound to device '{self.device}' and neither sees nor acts for another"
            raise refused("forbidden", problem)

    def which_device(self, asked: str | None) -> str | None:
        """The device whose things to list: the asked one, else the principal's own; None: all.

        Raises:
            AccessDenied: 403, another device is asked for than the one that the principal is bound
                to.
        """
        if asked:
            self.require_device(asked)
        return asked or self.device

    def require_any_device(self) -> None:
        """Raise AccessDenied (403) where the principal is bound to one device."""
        if self.device is not None:
            raise refused("forbidden", f"this token is bound to device '{self.device}': this is about all devices")


@dataclass(frozen=True)
class NewToken:
    """A token as its owner has it, and as the store does."""

    text: str
    record: TokenRecord


def create_token(
    tokens: TokenStore,
    role: str,
    name: str = "",
    device: str | None = None,
    clock: Clock = utc_now,
    days: float | None = None,
) -> str:
    """Make a token, store it and return it. Its secret is shown this once."""
    made = make_token(role, name, device, clock, days=days)
    tokens.add(made.record)
    return made.text


def make_token(
    role: str, name: str = "", device: str | None = None, clock: Clock = utc_now, days: float | None = None
) -> NewToken:
    """Make a token that is to be stored.

    Args:
        days: after which it ends; None: never.

    Raises:
        InvalidValue: no such role, a name that no device can have, or no such number of days.
    """
    if role not in ROLES:
        raise InvalidValue("role", f"'{role}' is none of {', '.join(ROLES)}")
    if device is not None:
        check_device_name(device)
    if days is not None:
        check_days("days", days)
    token_id, salt = secrets.token_hex(6), secrets.token_bytes(16)
    secret = secrets.token_urlsafe(32)
    now = clock()
    ends = None if days is None else stamp(now + timedelta(days=days))
    summary = TokenSummary(token_id, role, name[:200], device, stamp(now), None, ends)
    return NewToken(f"lut_{token_id}_{secret}", TokenRecord(summary, salt, _digest_of(secret, salt)))


def check_days(field: str, days: float) -> None:
    """Raise InvalidValue unless a token may live for so many days."""
    if not 0 < days <= LONGEST_LIFE_DAYS:
        raise InvalidValue(field, f"{days} is not above 0 and up to {LONGEST_LIFE_DAYS}")


class FailureLimit:
    """Failures of each client within a sliding window.

    Args:
        most: failures that a client may have within the window.
    """

    def __init__(
        self, most: int = MOST_FAILURES, window_s: float = WINDOW_S, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._window_s = window_s
        self._clock_s = clock_s
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, client: str) -> int:
        """One more failure of the client.

        Returns:
            Whole seconds until the client may try again; above 0, it is beyond the limit and not counted.
        """
        with self._lock:
            wait_s = self._wait_s(client)
            if not wait_s:
                self._failures[client] = [*self._recent(client), self._clock_s()]
                self._failures.move_to_end(client)
                if len(self._failures) > _REMEMBERED_CLIENTS:
                    self._failures.popitem(last=False)
            return wait_s

    def _wait_s(self, client: str) -> int:
        recent = self._recent(client)
        if len(recent) < self._most:
            return 0
        return max(1, math.ceil(recent[0] + self._window_s - self._clock_s()))

    def _recent(self, client: str) -> list[float]:
        oldest_s = self._clock_s() - self._window_s
        return [failed_s for failed_s in self._failures.get(client, ()) if failed_s > oldest_s]


class Authenticator:
    """Checks tokens from any thread."""

    def __init__(self, tokens: TokenStore, clock: Clock = utc_now) -> None:
        self._tokens = tokens
        self._clock = clock
        self._use_noted: dict[str, datetime] = {}

    def authenticate(self, token: str) -> Principal:
        """The principal of a token.

        Raises:
            AccessDenied: 401, the token is malformed, unknown, wrong, revoked or at its end.
        """
        match = _TOKEN.fullmatch(token)
        record = self._tokens.find(match.group(1)) if match else None
        if match is None or record is None or not _fits(match.group(2), record):
            raise refused("unauthorized", "this token is not known here; `lut-server token create` makes one")
        if record.summary.revoked_at is not None:
            raise refused("unauthorized", f"token {record.summary.id} was revoked")
        now = self._clock()
        if record.summary.expires_at is not None and stamp(now) >= record.summary.expires_at:
            raise refused("unauthorized", f"token {record.summary.id} ended on {record.summary.expires_at[:10]}")
        self._note_use(record.summary.id, now)
        return Principal(record.summary.role, record.summary.device, record.summary.id)

    def _note_use(self, token_id: str, now: datetime) -> None:
        noted = self._use_noted.get(token_id)
        if noted is None or (now - noted).total_seconds() >= USE_NOTED_EVERY_S:
            self._use_noted[token_id] = now
            self._tokens.touch(token_id)


def _fits(secret: str, record: TokenRecord) -> bool:
    return hmac.compare_digest(_digest_of(secret, record.salt), record.digest)


def _digest_of(secret: str, salt: bytes) -> bytes:
    return hashlib.sha256(salt + secret.encode()).digest()
