"""The latency tables in a run's folder: `tables/HASH.json`, the exact bytes that have that SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from search.config import TableReference
from search.process.atomic_files import write_atomically
from shared.errors import CorruptFile, InvalidValue
from shared.tables.table import LatencyTable, profile_command, read_table
from shared.wire import canonical_json

TABLES_FOLDER = "tables"


def write_table(folder: Path, table: LatencyTable) -> None:
    """Keep a table in a run's folder."""
    (folder / TABLES_FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TABLES_FOLDER / f"{table.hash}.json", canonical_json(table))


def read_kept_table(folder: Path, reference: TableReference) -> LatencyTable:
    """A table that a run's folder keeps.

    Raises:
        CorruptFile: it is not there, or not the very bytes, or of another device.
        OtherSchema: another lutnas wrote it.
    """
    path = folder / TABLES_FOLDER / f"{reference.hash}.json"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorruptFile(f"{path}, the table of {reference.device}, cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != reference.hash:
        raise CorruptFile(f"{path} has hash {found[:12]}…, the search used {reference.hash[:12]}…")
    table = read_table(json.loads(content), str(path))
    if table.device != reference.device:
        raise CorruptFile(f"{path} is a table of {table.device}, the run has it for {reference.device}")
    return table


def require_one_space(tables: Sequence[LatencyTable]) -> None:
    """Raise InvalidValue unless all tables are of the same space; two that differ are named."""
    for table in tables[1:]:
        if table.space != tables[0].space:
            raise InvalidValue(
                "device",
                f"one run is of one space, but the table of {tables[0].device} is of {tables[0].space}, that of"
                f" {table.device} of {table.space}; measure the one on the other device:"
                f" {profile_command(table.device, tables[0].parsed_space)}",
            )


def require_fp32(table: LatencyTable) -> None:
    """Raise InvalidValue unless the table is of fp32, in which networks are exported."""
    if table.runtime.precision != "fp32":
        raise InvalidValue(
            "--runtime",
            f"is of {table.runtime.precision} on {table.device}; networks are exported in fp32, take a table of fp32",
        )
