"""`lut-server import` and `lut-server export`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lut_server.settings import Settings
from lut_server.sql import open_store
from lut_server.transfer.additive_fit import Split
from lut_server.transfer.architectures import read_names
from lut_server.transfer.importing import ImportRequest, read_tables
from shared.errors import InvalidValue, LutnasError
from shared.table import LatencyTable
from shared.table_source import FORMATS

Command = Callable[[argparse.Namespace, Settings], None]
Add = Callable[[Any, str, str, Command], argparse.ArgumentParser]
_SPLIT = Split()
MOST_FILE_BYTES = 256 << 20


def add_import(commands: Any, add: Add) -> None:
    """The options of `lut-server import`."""
    parser = add(commands, "import", "read another project's latency table, or an archive of `export --all`", _import)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--device", default="", help="name of the table's device (default: the file's own names, all)")
    parser.add_argument("--column", default="", help="the file's own name for the device (default: as --device)")
    parser.add_argument("--kind", choices=FORMATS, default="", help="what the file is (default: found out)")
    parser.add_argument("--space", default="", help="of architectures or layers (default: nas-bench-201, fbnet)")
    parser.add_argument("--batch", type=int, default=1, help="images per inference (default: %(default)s)")
    parser.add_argument(
        "--fit", type=int, default=_SPLIT.fit, help="most architectures that make the prices (default: %(default)s)"
    )
    parser.add_argument(
        "--held-out", type=int, default=_SPLIT.held_out, help="most that score them (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=_SPLIT.seed, help="of the split (default: %(default)s)")
    parser.add_argument("--index-from", type=Path, metavar="FILE", help="CSV that lists the architectures by index")


def _import(arguments: argparse.Namespace, settings: Settings) -> None:
    tables = read_tables(_read(arguments.file), arguments.file.name, _request(arguments))
    store = open_store(settings.database_url)
    for table in tables:
        is_new = store.tables.put_imported(table)
        print(f"{table.device}: {'imported' if is_new else 'was there already,'} {_said_of(table)}")


def _request(arguments: argparse.Namespace) -> ImportRequest:
    indexed = arguments.index_from
    return ImportRequest(
        device=arguments.device,
        column=arguments.column,
        kind=arguments.kind,
        space=arguments.space,
        batch=arguments.batch,
        split=Split(arguments.fit, arguments.held_out, arguments.seed),
        indexed=read_names(_read(indexed), indexed.name) if indexed else (),
    )


def _said_of(table: LatencyTable) -> str:
    said = f"table {table.hash[:12]} of {table.space}, {len(table.prices)} op prices"
    if table.held_out is None or table.source is None:
        return f"{said}; no held-out error: the file lists prices, not networks"
    return (
        f"{said}, fitted to {table.source.fitted_networks} networks; off by {table.held_out.mape_percent:.1f} % on"
        f" {table.held_out.networks} others, Kendall tau {table.held_out.kendall_tau:.3f}"
    )


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise InvalidValue(str(path), f"is larger than {MOST_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise LutnasError(f"cannot read {path}: {error.strerror}") from error
