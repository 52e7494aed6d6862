"""Checks the records of an archive: their values, and the keys beside them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from lut_server.clock import stamp
from lut_server.store.schema import graph_hash
from lut_server.store.values import ArchiveRecord
from shared.errors import InvalidValue
from shared.jobs import JOB_STATES, JobResult, NewJob, Verification
from shared.kernels.kernel import check_counts
from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.measurement import Measurement, Run
from shared.runtime import check_device_name
from shared.search_result import SearchResult
from shared.tables.table import read_table
from shared.wire import canonical_json, from_wire, to_wire

Fields = Mapping[str, Any]
_MOMENTS = ("created_at", "last_seen_at", "last_asked_at", "lease_until", "raw_dropped_at")


def check_record(record: ArchiveRecord) -> None:
    """Raise InvalidValue, or KeyError for a missing field, unless the record is valid."""
    check = _CHECKS.get(record.kind)
    if check is None:
        raise InvalidValue("kind", f"'{record.kind[:40]}' is none of {', '.join(_CHECKS)}")
    check(record.fields)
    for name in _MOMENTS:
        if record.fields.get(name) is not None:
            _moment(name, record.fields[name])


def _device(fields: Fields) -> None:
    check_device_name(str(fields["name"]))
    from_wire(dict[str, str], _document(fields["probe"]), "probe")


def _table(fields: Fields) -> None:
    content = fields["content"]
    raw = canonical_json(content) if isinstance(content, dict) else _bytes(content)
    if hashlib.sha256(raw).hexdigest() != fields["hash"]:
        raise InvalidValue("table.hash", "is not the hash of the table's content")
    table = read_table(_document(raw.decode("utf-8", "replace")))
    _same("table", (fields["device"], fields["space"], fields["runtime"]), (table.device, table.space, table.runtime))
    beside = _document(fields["held_out"]), fields["canary_nominal_ms"]
    if beside != (to_wire(table.held_out), table.canary_nominal_ms):
        raise InvalidValue("table", "says another error or another canary than its content")


def _run(fields: Fields) -> None:
    run = from_wire(Run, _document(fields["content"]), "run")
    _same("run", (fields["id"], fields["device"]), (run.id, run.device))


def _measurement(fields: Fields) -> None:
    measurement = from_wire(Measurement, _document(fields["content"]), "measurement")
    _same("measurement", (fields["id"], fields["role"]), (measurement.id, measurement.role))


def _kernels(fields: Fields) -> None:
    graph = str(fields["graph"])
    _own_network(fields)
    counts = from_wire(dict[str, int], _document(fields["counts"]), "counts")
    check_counts("counts", {graph: counts})


def _nominal(fields: Fields) -> None:
    value = from_wire(float, fields["nominal_ms"], "nominal_ms")
    if not 0 < value < math.inf:
        raise InvalidValue("nominal_ms", f"{value} is not a time")


def _model(fields: Fields) -> None:
    _same("model", (fields["sha256"],), (hashlib.sha256(_bytes(fields["content"])).hexdigest(),))


def _own_network(fields: Fields) -> None:
    graph = str(fields["graph"])
    parse_graph_spec(graph)
    _same("graph_hash", (fields["graph_hash"],), (graph_hash(graph),))


def _job(fields: Fields) -> None:
    job = from_wire(NewJob, _document(fields["content"]), "job")
    _same("job", (fields["device"],), (job.device,))
    if fields["state"] not in (None, *JOB_STATES):
        raise InvalidValue("job.state", f"'{str(fields['state'])[:40]}' is none of {', '.join(JOB_STATES)}")
    kinds: tuple[tuple[str, type], ...] = (("verification", Verification), ("result", JobResult))
    for name, kind in kinds:
        if fields[name] is not None:
            from_wire(kind, _document(fields[name]), name)


def _search(fields: Fields) -> None:
    document = _document(fields["content"])
    result = from_wire(SearchResult, document, "search")
    _same("search", (fields["device"], fields["search"]), (result.device, result.search))
    _same("search", (fields["id"],), (hashlib.sha256(canonical_json(document)).hexdigest(),))


_CHECKS: Mapping[str, Callable[[Fields], None]] = {
    "device": _device,
    "table": _table,
    "run": _run,
    "measurement": _measurement,
    "kernels": _kernels,
    "nominal": _nominal,
    "model": _model,
    "own-network": _own_network,
    "job": _job,
    "search": _search,
}


def _document(value: Any) -> Any:
    """A document is in the record as itself, or as text if that is not canonical."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
        json.dumps(found, allow_nan=False)
        return found
    except (ValueError, RecursionError) as error:
        raise InvalidValue("document", "is not JSON") from error


def _moment(name: str, value: Any) -> None:
    """Moments are compared as texts, so they have a single form."""
    try:
        is_stamp = stamp(datetime.fromisoformat(value)) == value
    except (TypeError, ValueError, OverflowError):
        is_stamp = False
    if not is_stamp:
        raise InvalidValue(name, f"'{str(value)[:40]}' is no moment as this server writes it")


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidValue("content", "is not base64") from error


def _same(field: str, found: tuple[Any, ...], inside: tuple[Any, ...]) -> None:
    for key, value in zip(found, inside, strict=True):
        if key != str(value):
            raise InvalidValue(field, f"says {str(key)[:80]}, its content {str(value)[:80]}")
