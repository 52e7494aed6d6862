"""Codes of refused requests, their HTTP status, and the errors that carry them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.errors import AccessDenied, Conflict, NotFound, ServerRefused

STATUS_OF_CODE: Mapping[str, int] = {
    "invalid_json": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "unknown_device": 404,
    "no_table": 404,
    "unknown_run": 404,
    "unknown_job": 404,
    "unknown_model": 404,
    "unknown_search": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_slow": 408,
    "too_large": 413,
    "unsupported_encoding": 415,
    "invalid": 422,
    "rate_limited": 429,
    "internal": 500,
    "unavailable": 503,
}
"""Every code that an error can carry, and the HTTP status it comes with."""


def refused(code: str, message: str, retry_after_s: int | None = None) -> ServerRefused:
    """The error of that code, in the class that its status has in `shared.errors`."""
    status = STATUS_OF_CODE[code]
    kinds: dict[int, type[ServerRefused]] = {401: AccessDenied, 403: AccessDenied, 404: NotFound, 409: Conflict}
    return kinds.get(status, ServerRefused)(message, status, code, retry_after_s)


def unknown_device(name: str, known: Iterable[str]) -> ServerRefused:
    """The device was never registered. The message names the known devices and the next command."""
    listed = ", ".join(sorted(known)) or "none yet"
    return refused(
        "unknown_device",
        f"unknown device '{name}' (known: {listed}); measure it with: "
        f"profiler-agent profile --lut-url URL --device {name} --space nas-bench-201",
    )
