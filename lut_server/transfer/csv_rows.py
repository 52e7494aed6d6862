"""CSV files of others: rows by column name, each with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.errors import InvalidValue


@dataclass(frozen=True)
class CsvRow:
    """A row; `where` names file and line."""

    where: str
    cells: dict[str, str]


def read_csv(content: bytes, name: str, *needed: str) -> tuple[tuple[str, ...], Iterator[CsvRow]]:
    """The column names, `needed` among them, and the rows as they are read; empty lines are
    ignored.

    Raises:
        InvalidValue: the file or a row is not valid; the message names the line.
    """
    lines = _read_lines(content, name)
    where, header = next(lines, (f"{name}, line 1", []))
    if not header or not all(header):
        raise InvalidValue(where, "has a column without a name" if any(header) else "names no columns")
    twice = [column for column in header if header.count(column) > 1]
    if twice:
        raise InvalidValue(where, f"names the column '{twice[0][:60]}' twice")
    for column in needed:
        require_column(header, column, name)
    return tuple(header), (_row(where, header, cells) for where, cells in lines if cells)


def require_column(header: Sequence[str], column: str, name: str) -> None:
    """Raise InvalidValue unless the file has the column; the message lists its columns."""
    if column not in header:
        raise InvalidValue(name, f"has no column '{column[:60]}' (it has: {', '.join(header)[:300]})")


def _row(where: str, header: Sequence[str], cells: Sequence[str]) -> CsvRow:
    if len(cells) != len(header):
        raise InvalidValue(where, f"has {len(cells)} cells, the header names {len(header)} columns")
    return CsvRow(where, dict(zip(header, cells, strict=True)))


def _read_lines(content: bytes, name: str) -> Iterator[tuple[str, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidValue(f"{name}, line {line}", "is no UTF-8 text") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield f"{name}, line {reader.line_num}", [cell.strip() for cell in cells]
    except csv.Error as error:
        raise InvalidValue(f"{name}, line {reader.line_num}", str(error)) from error
