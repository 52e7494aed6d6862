"""CSV files of others: rows by column name, each with its line.

Commas, semicolons or tabs separate cells, whichever the first line has most of. Where commas do
not, a comma in a number is its decimal point. A first column of row numbers, as pandas writes it,
is left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.errors import InvalidValue

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_ROW_NUMBERS = re.compile(r"(Unnamed: \d+)?")
MOST_COLUMNS = 1000
_SAVE = "save it as CSV in UTF-8"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


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
    where, header = next((line for line in lines if any(line[1])), (f"{name}, line 1", []))
    if len(header) > 1 and _ROW_NUMBERS.fullmatch(header[0]) and any(header):
        header, lines = header[1:], ((where, cells[1:]) for where, cells in lines)
    if not header or not all(header):
        raise InvalidValue(where, "has a column without a name" if any(header) else "names no columns")
    if len(header) > MOST_COLUMNS:
        raise InvalidValue(where, f"names {len(header)} columns; at most {MOST_COLUMNS} are read")
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
        text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidValue(f"{name}, line {line}", f"is no UTF-8 text; {_SAVE}") from error
    if "\0" in text:
        raise InvalidValue(name, f"is no text; {_SAVE}")
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if separator != ",":
                cells = [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]
            yield f"{name}, line {reader.line_num}", cells
    except csv.Error as error:
        raise InvalidValue(f"{name}, line {reader.line_num}", str(error)) from error
