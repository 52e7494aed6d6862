"""Values to JSON and back, without pydantic (the agent runs where pydantic has no wheels).

A value is a frozen dataclass that validates itself. Its wire form is a JSON object with the same
field names. Unknown fields are ignored. A missing field without a default is an error. A field
`schema` must have the number of the value's class.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from shared.errors import InvalidValue, OtherSchema

T = TypeVar("T")


Texts = Mapping[type, Callable[[str], Any]]


def to_wire(value: Any, texts: Mapping[type, Callable[[Any], str]] | None = None) -> Any:
    """A value in the types that `json.dumps` takes: dataclasses as dicts, tuples as lists.

    Args:
        value: of dataclasses, tuples, dictionaries and scalars.
        texts: formats values of these types as text, for example genotypes.
    """
    if texts and type(value) in texts:
        return texts[type(value)](value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_wire(getattr(value, field.name), texts) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_wire(item, texts) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_wire(item, texts) for item in value]
    return value


def from_wire(kind: type[T], data: Any, where: str = "", texts: Texts | None = None) -> T:
    """A value of type `kind` from parsed JSON.

    Args:
        where: name of the value in messages; by default its type.
        texts: parses values of these types from text, as the inverse of `to_wire`.

    Raises:
        InvalidValue: the data does not fit; the message names the field by its path.
        OtherSchema: the data, or a part of it, has another schema number.
    """
    return _read(kind, data, where or kind.__name__, texts or {})  # type: ignore[no-any-return]


def canonical_json(value: Any) -> bytes:
    """The canonical bytes of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(to_wire(value), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _read(kind: Any, data: Any, where: str, texts: Texts) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return data
    if kind in texts:
        return texts[kind](_read_scalar(str, data, where))
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _read(inner, data, where, texts)
    if origin is tuple:
        return _read_tuple(arguments, data, where, texts)
    if origin is dict:
        _require(isinstance(data, dict), where, "an object", data)
        return {key: _read(arguments[1], item, f"{where}.{key}", texts) for key, item in data.items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, data, where, texts)
    return _read_scalar(kind, data, where)


def _read_tuple(arguments: tuple[Any, ...], data: Any, where: str, texts: Texts) -> tuple[Any, ...]:
    _require(isinstance(data, list), where, "a list", data)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        if arguments[0] is float and set(map(type, data)) <= {float}:
            return tuple(data)  # most data are raw values
        return tuple(_read(arguments[0], item, f"{where}[{i}]", texts) for i, item in enumerate(data))
    _require(len(data) == len(arguments), where, f"a list of {len(arguments)}", data)
    pairs = enumerate(zip(arguments, data, strict=True))
    return tuple(_read(kind, item, f"{where}[{i}]", texts) for i, (kind, item) in pairs)


def _read_dataclass(kind: Any, data: Any, where: str, texts: Texts) -> Any:
    _require(isinstance(data, dict), where, "an object", data)
    if (schema := kind.__dataclass_fields__.get("schema")) is not None:
        require_schema(where, data.get("schema"), schema.default)
    values = {}
    for name, hint, is_required in _fields(kind):
        if name in data:
            values[name] = _read(hint, data[name], f"{where}.{name}", texts)
        elif is_required:
            raise InvalidValue(f"{where}.{name}", "is missing")
    return kind(**values)


@functools.cache
def _fields(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """(name, type, whether required) of each field. Cached, because `get_type_hints` is slow."""
    hints, missing = get_type_hints(kind), dataclasses.MISSING
    return tuple(
        (field.name, hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
    )


def _read_scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise InvalidValue(where, "a whole number too large for a float") from None
    _require(isinstance(data, kind) and (kind is bool or not isinstance(data, bool)), where, kind.__name__, data)
    return data


def _require(holds: bool, where: str, expected: str, found: Any) -> None:
    if not holds:
        raise InvalidValue(where, f"{expected} expected, found {json.dumps(found, default=str)[:60]}")


# Each form has a single number, and readers accept that number alone. The first number is 10: forms
# before the first release had smaller numbers, or none. Add 1 with every change to the fields of a
# form or to their meaning. Run file: `version` of the JSON; spool: the file `schema`; run directory:
# `schema` of config.json and training.json; a browser's spool: the version of its IndexedDB; the
# database and its archive: Alembic's revision, in four digits; all others: `schema` of the JSON.
TABLE_SCHEMA = 11
PLAN_SCHEMA = 10
RUN_DIRECTORY_SCHEMA = 11
COMPARISON_SCHEMA = 10
RUN_FILE_SCHEMA = 12
SPOOL_SCHEMA = 12
DATABASE_REVISION = "0012"


def require_schema(what: str, found: object, needed: int | str) -> None:
    """Raise OtherSchema unless a form has the number that this lutnas reads."""
    if found != needed:
        raise OtherSchema(what, found, needed)
