"""A whole store as a file: JSON Lines, plain or gzip.

    {"format": "lutnas-archive", "schema": "0012"}
    {"kind": "device", "name": "pi", …}            a row of the store a line, by its columns
    …
    {"counts": {"device": 1, …}, "kind": "end", "sha256": "…"}

Lines are canonical JSON in the store's order, so that the same content always makes the same bytes.
The last line counts the others and hashes all bytes before it: a damaged file is refused before its
transaction ends. Tokens are left out: their secrets belong to their server.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

from lut_server.store.sql import Store
from lut_server.store.values import ArchiveRecord, Loaded
from lut_server.transfer.record_checks import check_record
from shared.errors import CorruptFile, InvalidValue
from shared.wire import DATABASE_REVISION, canonical_json, require_schema

FORMAT = "lutnas-archive"
LONGEST_LINE_BYTES = 512 << 20
GZIP_START = b"\x1f\x8b"
ARCHIVE_START = b'{"format"'
_END = "end"


def archive_lines(store: Store) -> Iterator[bytes]:
    """The lines of an archive; the store is read at a single moment."""
    digest, counts = hashlib.sha256(), Counter[str]()
    header = {"format": FORMAT, "schema": DATABASE_REVISION}
    for line in _lines(header, store.archive.records(), counts):
        digest.update(line)
        yield line
    yield _line({"kind": _END, "counts": dict(counts), "sha256": digest.hexdigest()})


def compressed(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines as gzip, without a time: the same lines always make the same bytes."""
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    for line in lines:
        if packed := packer.compress(line):
            yield packed
    yield packer.flush()


def load_archive(store: Store, file: IO[bytes], name: str) -> Loaded:
    """Store all of an archive, or nothing; what the store has already is skipped.

    Args:
        store: to load into.
        file: plain or gzip, at its beginning and seekable.
        name: of the file, for messages.

    Raises:
        CorruptFile: the file is no archive, cut off or altered; the message names the line.
        OtherSchema: it bears another schema number.
        Conflict: the store has other content under a name of the archive.
    """
    return store.archive.load(_records(_opened(file), name))


def is_archive(start: bytes, name: str) -> bool:
    """Whether a file is an archive, by its first bytes or its name."""
    is_json = start.startswith(b'{"') and not name.lower().endswith(".json")
    return is_json or start.startswith((ARCHIVE_START, GZIP_START)) or name.endswith((".jsonl", ".jsonl.gz"))


def _lines(header: Any, records: Iterable[ArchiveRecord], counts: Counter[str]) -> Iterator[bytes]:
    yield _line(header)
    for record in records:
        counts[record.kind] += 1
        yield _line({**record.fields, "kind": record.kind})


def _line(value: Any) -> bytes:
    return canonical_json(value) + b"\n"


def _opened(file: IO[bytes]) -> IO[bytes]:
    start = file.read(2)
    file.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb")) if start == GZIP_START else file


def _records(file: IO[bytes], name: str) -> Iterator[ArchiveRecord]:
    digest, counts = hashlib.sha256(), Counter[str]()
    number = 0
    while True:
        number += 1
        where = f"{name}, line {number}"
        line = _read_line(file, where)
        data = _parse(line, where)
        if number == 1:
            _check_header(data, where)
        elif data.get("kind") == _END:
            _check_end(data, dict(counts), digest.hexdigest(), where)
            if _read(file, 1, where):
                raise CorruptFile(f"{where}: the archive goes on after its end; nothing was imported")
            return
        else:
            kind = str(data.pop("kind", ""))
            counts[kind] += 1
            record = ArchiveRecord(kind, data, where)
            try:
                check_record(record)
            except (InvalidValue, KeyError) as error:
                said = f"has no {error}" if isinstance(error, KeyError) else str(error)
                raise CorruptFile(f"{where}: {said}; nothing was imported") from error
            yield record
        digest.update(line)


def _read_line(file: IO[bytes], where: str) -> bytes:
    line = _read(file, LONGEST_LINE_BYTES, where)
    if not line.endswith(b"\n"):
        raise CorruptFile(f"{where}: the archive is cut off: its last line is missing; nothing was imported")
    return line


def _read(file: IO[bytes], most_bytes: int, where: str) -> bytes:
    """Up to the end of the line."""
    try:
        return file.readline(most_bytes)
    except (EOFError, OSError, zlib.error) as error:
        raise CorruptFile(f"{where}: the archive is cut off or damaged ({error}); nothing was imported") from error


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        data = json.loads(line, parse_constant=_no_constant)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()  # half a surrogate pair is no text, nor 1e999
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{where}: is not JSON; nothing was imported") from error
    if not isinstance(data, dict):
        raise CorruptFile(f"{where}: is no JSON object; nothing was imported")
    return data


def _check_header(data: dict[str, Any], where: str) -> None:
    if data.get("format") != FORMAT:
        raise CorruptFile(f"{where}: this is no archive of lutnas (its first line does not say {FORMAT})")
    require_schema(f"{where}: the archive", data.get("schema"), DATABASE_REVISION)


def _check_end(data: dict[str, Any], counts: dict[str, int], digest: str, where: str) -> None:
    if data.get("counts") != counts:
        raise CorruptFile(f"{where}: lines are missing or too many: {counts} found, {data.get('counts')} announced")
    if data.get("sha256") != digest:
        raise CorruptFile(f"{where}: the archive was altered: its SHA-256 is not the announced one")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
