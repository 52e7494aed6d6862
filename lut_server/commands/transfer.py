"""`import` and `export`: tables of others, tables for others, and archives of everything."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lut_server.commands.options import add_store_command, add_table, existing_store, opened_store
from lut_server.tables.table_lookup import get_table
from lut_server.transfer.additive_fit import Split
from lut_server.transfer.architectures import read_names
from lut_server.transfer.archive import ARCHIVE_START, archive_lines, compressed, is_archive, load_archive
from lut_server.transfer.importing import ImportRequest, read_tables
from lut_server.transfer.notebook_files import SHEETS, about_table, csv_lines, make_sheet, write_parquet
from lut_server.transfer.units import UNITS
from shared.command_line import Commands, Parser
from shared.errors import InvalidValue, LutnasError, WrongUse
from shared.tables.table import LatencyTable, read_table
from shared.tables.table_source import FORMATS

_SPLIT = Split()
MOST_FILE_BYTES = 256 << 20


def add(commands: Commands[Parser]) -> None:
    _add_export(commands)
    parser = add_store_command(commands, "import", import_file)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "--device", default="", metavar="NAME", help="name of the table's device (default: the file's own names, all)"
    )
    parser.add_argument("--column", default="", help="the file's own name for the device (default: as --device)")
    parser.add_argument("--kind", choices=FORMATS, default="", help="what the file is (default: found out)")
    parser.add_argument("--space", default="", help="of architectures or layers (default: nas-bench-201, fbnet)")
    parser.add_argument(
        "--unit", choices=tuple(UNITS), default="", help="of the latencies (default: by the column's name, else ms)"
    )
    advanced = parser.add_argument_group("advanced")
    for flag, default, text in (
        ("--batch", 1, "images per inference"),
        ("--fit", _SPLIT.fit, "most architectures that make the prices"),
        ("--held-out", _SPLIT.held_out, "most that score them"),
        ("--seed", _SPLIT.seed, "of the split"),
    ):
        advanced.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    advanced.add_argument("--index-from", type=Path, metavar="FILE", help="CSV that lists the architectures by index")


def _add_export(commands: Commands[Parser]) -> None:
    parser = add_store_command(commands, "export", export_table)
    add_table(parser, required=False)
    parser.add_argument("--format", choices=("json", "csv", "parquet"), default="json", help="json: the whole table")
    parser.add_argument(
        "--what", choices=tuple(SHEETS), default="prices", help="what csv and parquet hold (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="instead of stdout")
    parser.add_argument(
        "--all", type=Path, metavar="FILE", help="everything but the tokens, as JSON Lines (gzip where it ends in .gz)"
    )


def export_table(arguments: argparse.Namespace) -> None:
    """Write a device's newest table, or everything, to a file or to stdout.

    lut-server export --device rpi4 --out table.json
    """
    if bool(arguments.device) == bool(arguments.all):
        raise WrongUse("export takes either --device NAME or --all FILE")
    with existing_store(arguments) as store:
        if arguments.all:
            lines = archive_lines(store)
            _write(arguments.all, compressed(lines) if arguments.all.suffix == ".gz" else lines)
            return
        content = store.tables.get_bytes(get_table(store, arguments.device, arguments.space, arguments.runtime).hash)
        if arguments.format == "json":
            _put(arguments.out, [content] if arguments.out else [content, b"\n"])
            return
        table = read_table(json.loads(content))
        sheet = make_sheet(arguments.what, table, store)
        if arguments.format == "csv":
            _put(arguments.out, csv_lines(sheet))
            return
        if arguments.out is None:
            raise WrongUse("Parquet is no text: name a file with --out FILE")
        with _whole(arguments.out) as partial:
            write_parquet(sheet, partial, about_table(table))


def _put(path: Path | None, parts: Iterable[bytes]) -> None:
    """To a file, or to stdout."""
    if path is not None:
        _write(path, parts)
        return
    for part in parts:
        print(part.decode(), end="")


def _write(path: Path, parts: Iterable[bytes]) -> None:
    with _whole(path) as partial, partial.open("wb") as file:
        for part in parts:
            file.write(part)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Where to write a file that shall appear whole or not at all."""
    partial = path.with_name(path.name + ".part")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise LutnasError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def import_file(arguments: argparse.Namespace) -> None:
    """Read another project's latency table, or an archive of `export --all`.

    lut-server import latencies.csv --device pixel3
    """
    with _opened(arguments.file) as file:
        start = file.read(len(ARCHIVE_START))
        file.seek(0)
        if is_archive(start, arguments.file.name):
            with opened_store(arguments) as store:
                loaded = load_archive(store, file, arguments.file.name)
            print("\n".join(f"{kind}: {n} imported, {loaded.known[kind]} known" for kind, n in loaded.stored.items()))
            return
    content, name = _read(arguments.file), arguments.file.name
    tables = read_tables(content, name, _request(arguments), lambda line: print(line, file=sys.stderr))
    with opened_store(arguments) as store:
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
        unit=arguments.unit,
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
    with _opened(path) as file:
        content = file.read(MOST_FILE_BYTES + 1)
    if len(content) > MOST_FILE_BYTES:
        raise InvalidValue(str(path), f"is larger than {MOST_FILE_BYTES >> 20} MiB")
    return content


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise LutnasError(f"cannot read {path}: {error.strerror}") from error
