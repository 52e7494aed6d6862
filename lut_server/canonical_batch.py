"""Recognises a batch of measurements in the form that agents write it, without building a single value.

An agent sends the canonical JSON of its measurements. A server that parses it, builds and checks each value and writes
the same bytes again spends nearly all its time on that. One regular expression says the same of a measurement in that
form: every field in its place, of its type and within its domain. What it recognises is stored as it came. It is strict
on purpose: a test holds that everything it does recognise is a measurement with just these bytes. Where only order,
spaces or escapes differ, as in other clients' JSON, the body is parsed and written again first. Whatever else is valid
(exponents, whole numbers, fields left out) is not recognised, and built value by value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from hashlib import sha256

from lut_server.store.store import WrittenMeasurement
from shared.measurements.measurement import MOST_REPEATS, MOST_ROUNDS
from shared.measurements.plan import ROLES

Check = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Takes role, subject, graph and minus of a measurement, and raises where they are not the run's."""
_OPENS, _CLOSES = b'{"measurements":[', b"]}"
# From 0.000001 to 99999.9… ms, in the digits that Python gives a float: no zero, no exponent.
_TIME = r"(?:0\.0{0,3}[1-9][0-9]{0,17}|[1-9][0-9]{0,4}\.[0-9]{1,17})"
_TIMES = rf"{_TIME}(?:,{_TIME}){{0,{MOST_REPEATS - 1}}}"
# To hundredths of a second, without a zero at the end.
_MOMENT = r"(?:0|[1-9][0-9]{0,9})\.(?:0|[0-9]?[1-9])"
_TEXT = r"[ !#-\[\]-~]*"
_ROUND = (
    rf'\{{"at_s":(?:null|{_MOMENT}),"canary_ms":\[{_TIMES}\],'
    rf'"graph_ms":\[{_TIMES}\],"minus_ms":\[(?(minus){_TIMES}|)\]\}}'
)
_MEASUREMENT = re.compile(
    (
        rf'\{{"divisor":(?:1000|[1-9][0-9]{{0,2}}),"graph":"(?P<graph>{_TEXT})","id":"(?P<id>[A-Za-z0-9._:-]{{1,80}})",'
        rf'"minus":(?:null|"(?P<minus>{_TEXT})"),"role":"(?P<role>{"|".join(ROLES)})",'
        rf'"rounds":\[{_ROUND}(?:,{_ROUND}){{0,{MOST_ROUNDS - 1}}}\],"subject":"(?P<subject>{_TEXT})",'
        rf'"verdict":\{{"reasons":\[(?:"{_TEXT}"(?:,"{_TEXT}")*)?\],"stable":(?:true|false)\}}\}}'
    ).encode()
)


def find_rewritten(body: bytes, check: Check) -> list[WrittenMeasurement] | None:
    """As `find_written`, of a body that is JSON in whatever form; None where that does not make it recognisable."""
    try:
        data = json.loads(body, parse_constant=_refuse_constant)
        batch = json.dumps({"measurements": data["measurements"]}, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # whoever parses it in earnest says what is wrong
    return find_written(batch, check)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def find_written(body: bytes, check: Check) -> list[WrittenMeasurement] | None:
    """The measurements of a request's body; None where it is not in the one form that is recognised."""
    if not body.startswith(_OPENS):
        return None
    found, position, end = [], len(_OPENS), len(body) - len(_CLOSES)
    while True:
        match = _MEASUREMENT.match(body, position)
        if match is None:
            return None
        graph, identity, minus, role, subject = match.groups()
        check(role, subject, graph, minus)
        content = match.group()
        found.append(
            WrittenMeasurement(identity.decode(), role.decode(), content.decode(), sha256(content).hexdigest())
        )
        position = match.end()
        if position == end and body.endswith(_CLOSES):
            return found
        if body[position : position + 1] != b",":
            return None
        position += 1
