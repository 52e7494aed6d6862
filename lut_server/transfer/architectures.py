"""Latencies of whole architectures as HW-NAS-Bench and HELP publish them: CSV, an architecture a
row.

architecture,raspi4,pixel3          strings of the space; or indices into the lines of another file
|avg_pool_3x3~0|+|…|+|…|,10.482,3.60585
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from lut_server.transfer.csv_rows import CsvRow, read_csv
from lut_server.transfer.imported_table import read_ms
from lut_server.transfer.units import UNITS, check_scale, find_unit, is_other_quantity
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space

ARCHITECTURE_COLUMNS = ("architecture", "arch", "arch_str", "genotype")
INDEX_COLUMNS = ("index", "arch_index", "architecture_index")


@dataclass(frozen=True)
class TimedNetwork:
    """An architecture with its published latency."""

    genotype: Genotype
    ms: float


@dataclass(frozen=True)
class TimedColumn:
    """A device's latencies, each architecture once; `notes`: what was left out or rounded."""

    networks: tuple[TimedNetwork, ...]
    notes: tuple[str, ...]


def latency_columns(content: bytes, name: str) -> tuple[str, ...]:
    """The columns of latencies: all but that of the architectures, and but those of other names.

    Raises:
        InvalidValue: no column of architectures, or no column of latencies.
    """
    columns = value_columns(content, name)
    found = tuple(column for column in columns if not is_other_quantity(column))
    if not found:
        others = f" ({', '.join(columns)[:300]}: no latencies by their names)" if columns else ""
        raise InvalidValue(f"{name}, line 1", f"has no column of latencies beside the architectures{others}")
    return found


def value_columns(content: bytes, name: str) -> tuple[str, ...]:
    """All columns but that of the architectures.

    Raises:
        InvalidValue: no column of architectures.
    """
    header, _ = read_csv(content, name)
    named = _naming_column(header, name)
    return tuple(column for column in header if column not in (named, *INDEX_COLUMNS))


def read_names(content: bytes, name: str) -> tuple[str, ...]:
    """The architectures of a file in its order, which an index counts.

    Raises:
        InvalidValue: no column of architectures.
    """
    header, rows = read_csv(content, name)
    column = _naming_column(header, name)
    return tuple(row.cells[column] for row in rows)


def read_column(
    content: bytes, name: str, column: str, space: Space, indexed: Sequence[str] = (), unit: str = ""
) -> TimedColumn:
    """A device's latencies.

    Args:
        indexed: architectures by index, for a file of indices.
        unit: of `UNITS`; "" takes that in the column's name, else ms.

    Raises:
        InvalidValue: a row is not valid, its architecture is unknown or has two different
            latencies, or all latencies are the same; the message names the line. Or the unit may
            be another.
    """
    said = unit or find_unit(column)
    header, rows = read_csv(content, name, column)
    named = _naming_column(header, name)
    seen: dict[Genotype, tuple[float, str]] = {}
    repeated = 0
    for row in rows:
        genotype = _genotype(row, named, space, indexed)
        ms = read_ms(row.cells[column], f"{row.where}, column {column}", unit_ms=UNITS[said or "ms"])
        if genotype in seen and seen[genotype][0] != ms:
            first_ms, first = seen[genotype]
            raise InvalidValue(
                row.where, f"{space.format(genotype)} takes {ms:g} ms here and {first_ms:g} ms in {first}"
            )
        repeated += genotype in seen
        seen.setdefault(genotype, (ms, row.where))
    networks = tuple(TimedNetwork(genotype, ms) for genotype, (ms, _) in seen.items())
    where = f"{name}, column {column}"
    notes = _notes(networks, repeated, where)
    if not unit:
        check_scale(median(network.ms for network in networks), where)
    return TimedColumn(networks, (*notes, *([f"published in {said}"] if said not in (None, "ms") else [])))


def _notes(networks: Sequence[TimedNetwork], repeated: int, where: str) -> tuple[str, ...]:
    values = {network.ms for network in networks}
    if not networks:
        raise InvalidValue(where, "holds no architecture")
    if len(values) == 1:
        raise InvalidValue(where, f"holds {values.pop():g} ms for all {len(networks)} architectures: nothing to fit")
    notes = []
    if repeated:
        notes.append(f"{repeated} repeated rows with the same latency were counted once")
    if all(value == round(value) for value in values):
        notes.append("latencies are rounded to whole ms: up to 0.5 ms of each error is rounding")
    elif len(values) <= len(networks) // 50:
        notes.append(f"only {len(values)} distinct latencies: an analytical model, so that a good fit proves nothing")
    return tuple(notes)


def _genotype(row: CsvRow, named: str, space: Space, indexed: Sequence[str]) -> Genotype:
    text = row.cells[named]
    if text.isascii() and text.isdigit():
        if not indexed:
            raise InvalidValue(row.where, f"names an architecture by its index {text[:20]}: give --index-from FILE")
        if len(text) > 9 or int(text) >= len(indexed):
            raise InvalidValue(row.where, f"index {text[:20]} is beyond the {len(indexed)} architectures listed")
        text = indexed[int(text)]
    try:
        return space.parse(text)
    except InvalidValue as error:
        raise InvalidValue(row.where, f"unknown architecture: {error.problem}") from error


def _naming_column(header: Sequence[str], name: str) -> str:
    found = [column for column in header if column.lower() in (*ARCHITECTURE_COLUMNS, *INDEX_COLUMNS)]
    # A string says more than an index.
    found.sort(key=lambda column: column.lower() in INDEX_COLUMNS)
    if not found:
        known = ", ".join((*ARCHITECTURE_COLUMNS, *INDEX_COLUMNS))
        raise InvalidValue(f"{name}, line 1", f"has no column of architectures ({known})")
    return found[0]
