"""Per-layer tables of the FBNet space: CSV, an op of a layer a row, relative to the layer's skip.

    device,layer,op,latency_ms_rel_to_skip
    raspi4,-1,base_all_skip,7.798          the network of skips
    raspi4,0,k3_e1,0.595

The base holds the time of the skips, so that a skip costs 0, also where it changes the shape.

The file `lookup_table.txt` of a PyTorch implementation of FBNet becomes such rows: a line of op
names, then a line of times in microseconds for each layer. It has no time of stem and classifier.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from lut_server.transfer.csv_rows import CsvRow, read_csv, require_column
from lut_server.transfer.imported_table import NOT_MEASURED, Target, make_table, price_of, read_ms
from lut_server.transfer.units import UNITS, find_unit
from shared.errors import InvalidValue
from shared.measurements.measurement import LONGEST_MS
from shared.spaces import Space
from shared.spaces.op_key import OpKey
from shared.tables.table import LatencyTable
from shared.tables.table_source import TableSource

LOOKUP_UNIT = "us"
BASE_LAYER = -1
_LOOKUP_OP = re.compile(r"(?:ir_)?(k[35]_(?:e[136]|s2)|skip)")
SMALLEST_MS = 1e-9
"""A skip of a layer that keeps its shape may take no time."""
SAME_SHARE = 1e-3
"""Prices of an op key in two layers are the same up to this share of the larger."""


def layer_devices(content: bytes, name: str) -> tuple[str, ...]:
    """The devices that the file names."""
    _, rows = read_csv(content, name, "device")
    return tuple(dict.fromkeys(row.cells["device"] for row in rows))


def is_fbnet_lookup_table(content: bytes) -> bool:
    """Whether the first line names FBNet's ops."""
    words = content.partition(b"\n")[0].decode("utf-8", "replace").split()
    return len(words) > 1 and all(map(_LOOKUP_OP.fullmatch, words))


def layers_of_lookup_table(content: bytes, name: str) -> bytes:
    """The rows of this module for FBNet's lookup table.

    Raises:
        InvalidValue: a line has too few times, or no times; the message names it.
    """
    first, *lines = content.decode("utf-8", "replace").split("\n")
    # A shuffled convolution of two groups is the space's k3_e1_g2.
    ops = [re.sub("_s2$", "_e1_g2", op.removeprefix("ir_")) for op in first.split()]
    rows, skips = [f"device,layer,op,latency_{LOOKUP_UNIT}_rel_to_skip"], 0.0
    for layer, line in enumerate(text for text in lines if text.strip()):
        where = f"{name}, line {layer + 2}"
        cells = line.split()
        if len(cells) != len(ops) or "skip" not in ops:
            raise InvalidValue(
                where, f"has {len(cells)} times for the ops {', '.join(ops)}, of which skip has to be one"
            )
        times = {op: read_ms(cell, where, least=-SMALLEST_MS) for op, cell in zip(ops, cells, strict=True)}
        skips += times["skip"]
        rows += [f",{layer},{op},{time - times['skip']!r}" for op, time in times.items()]
    return "\n".join([*rows, f",{BASE_LAYER},base,{skips!r}"]).encode()


def layer_table(target: Target, source: TableSource, space: Space, content: bytes, unit: str = "") -> LatencyTable:
    """The prices of `source.subject`, by the op keys of the space's layers.

    Args:
        unit: of `UNITS`; "" takes that in the column's name, else ms.

    Raises:
        InvalidValue: a row is not valid, belongs to no layer, is there twice or is missing; the
            message names the line.
    """
    base_ms, of_layers = _read(source, space, content, unit)
    by_key: dict[OpKey, list[float]] = defaultdict(list)
    for index, slot in enumerate(space.slots):
        for primitive in slot.primitives:
            if (index, primitive) not in of_layers:
                raise InvalidValue(source.file, f"has no row for layer {index}, op {primitive}, of {source.subject}")
            for key in space.slot_ops(index, primitive):
                by_key[key].append(of_layers[index, primitive])
    prices = [price_of(key, fmean(found), pstdev(found)) for key, found in sorted(by_key.items())]
    return make_table(target, _with_notes(source, by_key), str(space), base_ms, prices)


def _read(
    source: TableSource, space: Space, content: bytes, unit: str
) -> tuple[float, Mapping[tuple[int, str], float]]:
    header, rows = read_csv(content, source.file, "device", "layer", "op")
    latency = next((column for column in header if column.lower().startswith("latency")), "latency_ms_rel_to_skip")
    require_column(header, latency, source.file)
    unit_ms = UNITS[unit or find_unit(latency) or "ms"]
    found: dict[tuple[int, str], float] = {}
    for row in rows:
        if row.cells["device"] != source.subject:
            continue
        layer, op = _place(row, space)
        if (layer, op) in found:
            raise InvalidValue(row.where, f"layer {layer}, op {op}, of {source.subject} was there before")
        found[layer, op] = read_ms(row.cells[latency], row.where, least=-LONGEST_MS, unit_ms=unit_ms)
    if not found:
        raise InvalidValue(source.file, f"has no row of the device '{source.subject[:60]}'")
    bases = [value for (layer, _), value in found.items() if layer == BASE_LAYER]
    if len(bases) != 1 or bases[0] < 0:
        raise InvalidValue(source.file, f"{source.subject} needs one row of layer {BASE_LAYER}, the network of skips")
    return bases[0], found


def _place(row: CsvRow, space: Space) -> tuple[int, str]:
    try:
        layer = int(row.cells["layer"])
    except ValueError:
        raise InvalidValue(row.where, f"layer '{row.cells['layer'][:20]}' is not a whole number") from None
    op = row.cells["op"]
    if layer == BASE_LAYER:
        return layer, op
    if not 0 <= layer < len(space.slots):
        raise InvalidValue(row.where, f"layer {layer} is none of the {len(space.slots)} layers of {space}")
    if op not in space.slots[layer].primitives:
        raise InvalidValue(row.where, f"op '{op[:40]}' is none of {', '.join(space.slots[layer].primitives)}")
    return layer, op


def _with_notes(source: TableSource, by_key: Mapping[OpKey, Sequence[float]]) -> TableSource:
    differing = {
        key: max(found) - min(found)
        for key, found in by_key.items()
        if max(found) - min(found) > SAME_SHARE * max(map(abs, found))
    }
    notes = ["prices are relative to each layer's skip, whose time is in the base"]
    if differing:
        worst = max(differing, key=lambda key: differing[key])
        notes.append(
            f"{len(differing)} op keys have different prices in several layers, their mean is taken;"
            f" {worst} differs by {differing[worst]:.3g} ms"
        )
    notes.append(NOT_MEASURED)
    return dataclasses.replace(source, notes=(*source.notes, *notes))
