"""CSV files of other people: rows by column name, each with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.errors import InvalidValue


@dataclass(frozen=True)
class CsvRow:
    """One row; `where` names file and line."""

    where: str
    cells: dict[str, str]


def read_header(content: bytes, name: str) -> tuple[str, ...]:
    """The column names.

    Raises:
        InvalidValue: the file is empty, no text, or names a column twice.
    """
    return _open(content, name)[0]


def read_rows(content: bytes, name: str) -> Iterator[CsvRow]:
    """Every row with as many cells as there are columns; empty lines are passed over.

    Raises:
        InvalidValue: as `read_header`, or a row that does not fit; the message names the line.
    """
    header, reader = _open(content, name)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InvalidValue(f"{name}, line {reader.line_num}", str(error)) from error
        if cells is None:
            return
        where = f"{name}, line {reader.line_num}"
        if not cells:
            continue
        if len(cells) != len(header):
            raise InvalidValue(where, f"has {len(cells)} cells, the header names {len(header)} columns")
        yield CsvRow(where, dict(zip(header, (cell.strip() for cell in cells), strict=True)))


def require_column(header: Sequence[str], column: str, name: str) -> str:
    """The column, if the file has it.

    Raises:
        InvalidValue: it has not; the message lists those that it has.
    """
    if column not in header:
        raise InvalidValue(name, f"has no column '{column[:60]}' (it has: {', '.join(header)[:300]})")
    return column


def _open(content: bytes, name: str) -> tuple[tuple[str, ...], csv._reader]:  # type: ignore[name-defined]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidValue(f"{name}, line {line}", "is no UTF-8 text") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = tuple(cell.strip() for cell in next(reader, []))
    except csv.Error as error:
        raise InvalidValue(f"{name}, line 1", str(error)) from error
    if not header or not all(header):
        raise InvalidValue(f"{name}, line 1", "names no columns" if not any(header) else "has a column without a name")
    twice = [column for column in header if header.count(column) > 1]
    if twice:
        raise InvalidValue(f"{name}, line 1", f"names the column '{twice[0][:60]}' twice")
    return header, reader
