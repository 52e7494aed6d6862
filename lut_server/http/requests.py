"""Request bodies: read within a limit, inflated, and decoded into checked values."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from fastapi import Depends, Query, Request
from starlette.requests import ClientDisconnect

from lut_server.error_codes import refused
from lut_server.http.services import services_of, turn
from shared.device_status import DeviceStatus
from shared.errors import InvalidValue, in_one_line
from shared.jobs import JobResult
from shared.kernels.kernel import check_counts
from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.measurement import Measurement, check_probe
from shared.measurements.plan import Plan
from shared.runtime import check_device_name

T = TypeVar("T")

LONGEST_PART = 1000
Offset = Annotated[int, Query(ge=0, le=10**9)]
Limit = Annotated[int, Query(ge=1, le=LONGEST_PART)]

LONGEST_LEASE_S = 86_400.0
LONGEST_QUESTION_BYTES = 4 << 20
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class NewDevice:
    """A device to register; `probe` is what its agent found out about it."""

    name: str
    probe: dict[str, str]

    def __post_init__(self) -> None:
        check_device_name(self.name)
        check_probe("probe", self.probe)


@dataclass(frozen=True)
class MeasurementBatch:
    """Measurements of one run."""

    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class KernelBatch:
    """Kernel counts of optimised graphs, by graph reference."""

    counts: dict[str, dict[str, int]]

    def __post_init__(self) -> None:
        check_counts("counts", self.counts)
        for graph in self.counts:
            parse_graph_spec(graph)


@dataclass(frozen=True)
class FinishRun:
    """The run's plan. `chosen`: its calibration networks were chosen on the way instead."""

    plan: Plan
    chosen: bool = False


@dataclass(frozen=True)
class Heartbeat:
    """Who holds a lease, for how much longer, and how the device is."""

    owner: str
    lease_s: float
    status: DeviceStatus | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.owner) <= 200 or "\0" in self.owner:
            raise InvalidValue("owner", "is not a name of 1 to 200 characters")
        if not (math.isfinite(self.lease_s) and 0 < self.lease_s <= LONGEST_LEASE_S):
            raise InvalidValue("lease_s", f"{self.lease_s} is not within 0 and {LONGEST_LEASE_S:g} s")


@dataclass(frozen=True, kw_only=True)
class LeaseRequest(Heartbeat):
    """Who asks for work, for which device, for how long, and how the device is."""

    device: str

    def __post_init__(self) -> None:
        check_device_name(self.device)
        super().__post_init__()


@dataclass(frozen=True)
class HandIn:
    """A job's result."""

    owner: str
    result: JobResult


async def read_body(
    request: Request, limit_bytes: int, limit_s: float, take: Callable[[int], None] = lambda size: None
) -> bytes:
    """The whole body, inflated if it came as gzip. It is given up as soon as it is known to be too
    long or too slow. `take` is told what arrives, before it is kept.

    Raises:
        ServerRefused: 408 too slow, 413 too long, 415 an unknown encoding, 400 damaged or cut off.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await _read_body(request, limit_bytes, take)
    except TimeoutError as error:
        raise refused("too_slow", f"the body took longer than {limit_s:g} s (setting max_body_s)") from error


async def _read_body(request: Request, limit_bytes: int, take: Callable[[int], None]) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise refused("unsupported_encoding", f"Content-Encoding '{encoding[:40]}' is neither gzip nor identity")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 12 or int(announced) > limit_bytes):
        raise _too_large(limit_bytes)
    inflater = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
    parts, size = [], 0
    try:
        async for chunk in request.stream():
            part = chunk if inflater is None else inflater.decompress(chunk, limit_bytes - size + 1)
            size += len(part)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            if inflater is not None and inflater.unused_data:
                raise refused("invalid_json", "the gzip body goes on after its end")
            take(len(part))
            parts.append(part)
    except zlib.error as error:
        raise refused("invalid_json", f"the gzip body is damaged: {error}") from error
    except ClientDisconnect as error:
        raise refused("invalid_json", "the body was cut off") from error
    if inflater is not None and not inflater.eof:
        raise refused("invalid_json", "the gzip body was cut off")
    return b"".join(parts)


async def _body(request: Request) -> bytes:
    settings = services_of(request).settings
    return await read_body(request, settings.max_body_bytes, settings.max_body_s)


async def _question(request: Request) -> AsyncIterator[bytes]:
    services, held = services_of(request), [0]
    limit_bytes = min(LONGEST_QUESTION_BYTES, services.settings.max_body_bytes)
    if getattr(request.state, "token", None) is not None:  # agents wait for no stranger
        yield await read_body(request, limit_bytes, services.settings.max_body_s)
        return

    def take(size: int) -> None:
        services.questions.take(size)
        held[0] += size

    try:
        body = await read_body(request, limit_bytes, services.settings.max_body_s, take)
        async with turn(request, services.questions.turns):
            yield body
    finally:
        services.questions.take(-held[0])


QuestionBody = Annotated[bytes, Depends(_question, scope="function")]
"""The body of a question, which needs no token where reads are open."""

Body = Annotated[bytes, Depends(_body)]
"""The request's body. It stands after the principal: nobody unknown gets a body read."""


def parse_body(kind: type[T], body: bytes) -> T:
    """Read a JSON object into a value.

    Raises:
        ServerRefused: 400, it is not JSON (NaN and Infinity are not).
        InvalidValue: it is JSON, but not such a value; the message names the field.
    """
    try:
        return msgspec.json.decode(body.decode(), type=kind)  # all of it is UTF-8, what is passed over too
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, InvalidValue):
            raise error.__cause__ from None
        problem, _, path = str(error).partition(" - at `$")
        raise InvalidValue(f"body{path.removesuffix('`')}", problem) from error
    except RecursionError as error:
        raise refused("invalid_json", "the body is nested too deeply") from error
    except ValueError as error:
        raise refused("invalid_json", f"the body is not JSON: {in_one_line(error)}") from error


def _too_large(limit_bytes: int) -> Exception:
    return refused("too_large", f"the body is longer than {limit_bytes >> 20} MiB (setting max_body_mb), inflated")
