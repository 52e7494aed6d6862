"""`lut-server import` and `lut-server export`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lut_server.settings import Settings
from lut_server.store.sql import open_store
from lut_server.tables.table_lookup import get_table
from lut_server.transfer.additive_fit import Split
from lut_server.transfer.architectures import read_names
from lut_server.transfer.archive import archive_lines, compressed, is_archive, load_archive
from lut_server.transfer.importing import ImportRequest, read_tables
from lut_server.transfer.notebook_files import SHEETS, about_table, csv_lines, make_sheet, write_parquet
from shared.errors import InvalidValue, LutnasError, WrongUse
from shared.tables.table import LatencyTable, read_table
from shared.tables.table_source import FORMATS

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


def add_export(commands: Any, add: Add) -> None:
    """The options of `lut-server export`."""
    parser = add(commands, "export", "write a device's newest table, or everything, to a file or to stdout", _export)
    parser.add_argument("--device", default="", help="whose table")
    parser.add_argument("--space", default="", help="a space, or its first parts; default: any")
    parser.add_argument("--runtime", help="a runtime, or some of its parts; default: any")
    parser.add_argument("--format", choices=("json", "csv", "parquet"), default="json", help="json: the whole table")
    parser.add_argument(
        "--what", choices=tuple(SHEETS), default="prices", help="what csv and parquet hold (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="instead of stdout")
    parser.add_argument(
        "--all", type=Path, metavar="FILE", help="everything but the tokens, as JSON Lines (gzip where it ends in .gz)"
    )


def _export(arguments: argparse.Namespace, settings: Settings) -> None:
    if bool(arguments.device) == bool(arguments.all):
        raise WrongUse("export takes either --device NAME or --all FILE")
    store = open_store(settings.database_url)
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


def _import(arguments: argparse.Namespace, settings: Settings) -> None:
    with _opened(arguments.file) as file:
        start = file.read(2)
        file.seek(0)
        if is_archive(start, arguments.file.name):
            loaded = load_archive(open_store(settings.database_url), file, arguments.file.name)
            print("\n".join(f"{kind}: {n} imported, {loaded.known[kind]} known" for kind, n in loaded.stored.items()))
            return
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
