"""Per-op tables of Once-for-All and ProxylessNAS: YAML or JSON, an op a key.

    expanded_conv-input:14x14x80-output:14x14x80-expand:6-kernel:3-stride:1-idskip:1:
      {mean: 2.1, std: 0.03, count: 100}

ProxylessNAS' `expand` is a ratio, Once-for-All's the number of mid channels. Once-for-All's keys
also have `se` (squeeze and excitation) and `hs` (hard swish). Only nodes are read: no tag of a YAML
file makes an object.

A block that is an inverted residual of ours gets its primitive (k3_e6). Other blocks get a name of
their own: k7_e6, k3_e6_se_hs, k3_m100 (mid channels are no multiple), dw_k3 (not expanded),
..._noskip.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from lut_server.transfer.imported_table import NOT_MEASURED, Target, make_table, price_of, read_ms
from shared.errors import InvalidValue
from shared.spaces.op_key import OpKey, Shape
from shared.tables.table import LatencyTable, OpPrice
from shared.tables.table_source import ONCE_FOR_ALL, PROXYLESSNAS, TableSource

MOST_OPS = 2_000
"""Published tables have some hundreds. The covariance of so many takes 130 MB."""
LARGEST_RATIO = 16
_DEEPEST = 3
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's is ten times as fast."""
_BLOCK = "expanded_conv"
_KEY = re.compile(
    r"([A-Za-z][A-Za-z0-9_]*)-input:(\d{1,5})x(\d{1,5})x(\d{1,5})-output:(\d{1,6}(?:x\d{1,5}x\d{1,5})?)((?:-[a-z]+:\d{1,6})*)"
)
_NUMBER_TAGS = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
_ERRORS = (yaml.YAMLError, RecursionError, ValueError)


def op_table(target: Target, source: TableSource, content: bytes, unit_ms: float = 1.0) -> LatencyTable:
    """A table of op prices without a space: `predict_counts` prices networks of its op keys.

    `unit_ms` is the file's unit.

    Raises:
        InvalidValue: the file is not valid; the message names the line.
    """
    ops: dict[OpKey, OpPrice] = {}
    seen: dict[OpKey, str] = {}
    for where, name, values in _entries(content, source.file):
        key = _op_key(name, where, source.format)
        if key in seen:
            raise InvalidValue(where, f"{name[:120]} is the op of {seen[key]} again")
        seen[key] = where
        if "mean" not in values:
            raise InvalidValue(where, "the op has no mean")
        mean_ms = read_ms(values["mean"], f"{where}, mean", unit_ms=unit_ms)
        ops[key] = price_of(key, mean_ms, unit_ms * _standard_error(values, where))
    if not ops:
        raise InvalidValue(source.file, "names no op")
    note = "a list of op prices without a space: a network costs the sum of its ops"
    source = dataclasses.replace(source, notes=(*source.notes, note, NOT_MEASURED))
    space = f"ops/{source.format}/r{max(key.input.height for key in ops)}"
    return make_table(target, source, space, 0.0, [ops[key] for key in sorted(ops)])


def get_dialect(content: bytes, name: str) -> str:
    """The project that wrote the file: only Once-for-All's blocks have `se`.

    Raises:
        InvalidValue: the file is no YAML mapping.
    """
    first = next((key for _, key, _ in _entries(content, name) if key.startswith(_BLOCK)), "")
    return ONCE_FOR_ALL if "-se:" in first else PROXYLESSNAS


def _entries(content: bytes, name: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """File and line, key, and values as text."""
    if name.lower().endswith(".json"):
        yield from _json_entries(content, name)
        return
    try:
        ops = _count_ops(content)
        root = None if ops > MOST_OPS else yaml.compose(content, Loader=_LOADER)
    except _ERRORS as error:
        raise InvalidValue(_where_of(error, name), f"is not YAML: {_reason(error)}") from error
    if ops > MOST_OPS:
        raise InvalidValue(name, f"has more than {MOST_OPS} ops")
    if not isinstance(root, yaml.MappingNode):
        raise InvalidValue(f"{name}, line 1", "is no mapping of ops to their times")
    for key, value in root.value:
        where = f"{name}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidValue(where, "the key is no text")
        if not isinstance(value, yaml.MappingNode):
            raise InvalidValue(where, f"{key.value[:80]} has no mean, std (or var) and count")
        yield where, key.value, dict(_numbers(value, name))


def _json_entries(content: bytes, name: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Objects as lists of pairs, so that a key that is there twice is seen."""
    try:
        root = json.loads(content, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(name, f"is not JSON: {_reason(error)}") from error
    if not isinstance(root, _Pairs):
        raise InvalidValue(name, "is no object of ops with their times")
    if len(root) > MOST_OPS:
        raise InvalidValue(name, f"{len(root)} ops are more than {MOST_OPS}")
    for key, value in root:
        where = f"{name}, {key[:120]}"
        if not isinstance(value, _Pairs) or not all(type(number) in (int, float) for _, number in value):
            raise InvalidValue(where, "has no mean, std (or var) and count, all numbers")
        yield where, key, {field: repr(number) for field, number in value}


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON."""


def _count_ops(content: bytes) -> int:
    """Ops of a file, up to one more than are allowed.

    Raises:
        RecursionError: it is nested more deeply than a table; libyaml's own recursion has no bound.
    """
    depth = ops = 0
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            ops += depth == 2
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise RecursionError
        if ops > MOST_OPS:
            break
    return ops


def _numbers(node: yaml.MappingNode, name: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for key, value in node.value:
        where = f"{name}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.value in seen:
            raise InvalidValue(where, "a field is no text, or is there twice")
        if not isinstance(value, yaml.ScalarNode) or value.tag not in _NUMBER_TAGS:
            raise InvalidValue(where, f"{key.value[:40]} is not a number")
        seen.add(key.value)
        yield key.value, value.value


def _op_key(name: str, where: str, format_: str) -> OpKey:
    match = _KEY.fullmatch(name)
    if match is None:
        raise InvalidValue(where, f"'{name[:120]}' is not of the form OP-input:HxWxC-output:HxWxC-…")
    op, height, width, channels, output, rest = match.groups()
    before = Shape(int(channels), int(height), int(width))
    sides = [int(side) for side in output.split("x")]
    after = Shape(sides[2], sides[0], sides[1]) if len(sides) == 3 else Shape(sides[0], 1, 1)
    fields = {key: int(value) for key, value in (part.split(":") for part in rest.split("-")[1:])}
    if op != _BLOCK:
        return OpKey(op.lower(), before, after, max(1, before.height // after.height) if len(sides) == 3 else 1)
    missing = [field for field in ("expand", "kernel", "stride", "idskip") if field not in fields]
    if missing:
        raise InvalidValue(where, f"'{name[:120]}' has no {missing[0]}")
    return OpKey(_block(before, after, fields, where, format_), before, after, fields["stride"])


def _block(before: Shape, after: Shape, fields: dict[str, int], where: str, format_: str) -> str:
    expand, kernel = fields["expand"], fields["kernel"]
    middle = expand if format_ == ONCE_FOR_ALL else expand * before.channels
    if format_ == PROXYLESSNAS and expand > LARGEST_RATIO:
        raise InvalidValue(where, f"expand:{expand} is no ratio; for mid channels: --kind {ONCE_FOR_ALL}")
    if format_ == ONCE_FOR_ALL and expand < before.channels:
        raise InvalidValue(
            where, f"expand:{expand} is below the {before.channels} input channels; for a ratio: --kind {PROXYLESSNAS}"
        )
    ratio, rest = divmod(middle, before.channels)
    name = f"k{kernel}_m{middle}" if rest else f"k{kernel}_e{ratio}" if ratio > 1 else f"dw_k{kernel}"
    name += "".join(f"_{field}" for field in ("se", "hs") if fields.get(field))
    adds = before == after and fields["stride"] == 1
    return name if bool(fields["idskip"]) == adds else f"{name}_{'noskip' if adds else 'skip'}"


def _standard_error(values: dict[str, str], where: str) -> float:
    """Of the mean, from count and std or var."""
    spread = _number(values, "std", where, math.sqrt(_number(values, "var", where, 0.0)))
    return spread / math.sqrt(max(_number(values, "count", where, 1.0), 1.0))


def _number(values: dict[str, str], field: str, where: str, default: float) -> float:
    try:
        value = float(values.get(field, default))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InvalidValue(where, f"{field} {values[field][:40]} is not a number of at least 0")
    return value


def _where_of(error: BaseException, name: str) -> str:
    mark = getattr(error, "problem_mark", None)
    return name if mark is None else f"{name}, line {mark.line + 1}"


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(getattr(error, "problem", None) or error).partition("\n")[0][:160]
