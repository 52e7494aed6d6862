"""The price of an op over the versions of the runtime: every table of a device that has its key."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from lut_server.store.sql import Store
from lut_server.store.values import TableSummary
from lut_server.tables.table_facts import FactsReader
from shared.runtime import Runtime
from shared.tables.table import OpPrice

MOST_TABLES = 60


@dataclass(frozen=True)
class HistoryEntry:
    """The op in one table.

    Attributes:
        version: of the runtime, with its engine.
        setting: the rest of the runtime, and the space. Entries of one setting differ by version
            and time alone.
        change: price over that of the entry before, of the same setting; None for the first.
    """

    table: str
    created_at: str
    version: str
    version_order: tuple[int, ...]
    setting: str
    price_ms: float
    sd_ms: float
    stable: bool
    change: float | None = None


@dataclass(frozen=True)
class HistoryView:
    """An op of a device over time.

    Attributes:
        devices, op_keys: what can be asked for.
        entries: by setting, then by version, then by age.
        skipped: older tables that were not read.
    """

    device: str | None
    op_key: str | None
    devices: tuple[str, ...]
    op_keys: tuple[str, ...] = ()
    entries: tuple[HistoryEntry, ...] = ()
    skipped: int = 0


def view_history(store: Store, facts: FactsReader, device: str | None, op_key: str | None) -> HistoryView:
    """The history of an op. Without a device or an op: what there is to choose from.

    Raises:
        NotFound: unknown_device.
    """
    tables = store.tables.list()
    devices = tuple(sorted({table.device for table in tables}))
    if not device:
        return HistoryView(None, None, devices)
    store.devices.get(device)
    own = [table for table in tables if table.device == device]
    shown = [(table, facts.get(table.hash)) for table in own[-MOST_TABLES:]]
    op_keys = tuple(sorted({price.op_key for _, known in shown for price in known.prices}))
    chosen = op_key or next(iter(op_keys), None)
    entries = [
        _entry(table, known.runtime, price)
        for table, known in shown
        for price in known.prices
        if price.op_key == chosen
    ]
    entries.sort(key=lambda entry: (entry.setting, entry.version_order, entry.created_at))
    return HistoryView(device, chosen, devices, op_keys, _with_changes(entries), len(own) - len(shown))


def version_order(version: str) -> tuple[int, ...]:
    """What versions are sorted by: 1.9 comes before 1.10."""
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version))


def _entry(table: TableSummary, runtime: Runtime, price: OpPrice) -> HistoryEntry:
    version = f"{runtime.engine} {runtime.version}"
    setting = f"{str(runtime).partition('/')[2]}, {table.space}"
    order = version_order(runtime.version)
    return HistoryEntry(
        table.hash, table.created_at, version, order, setting, price.price_ms, price.sd_ms, price.stable
    )


def _with_changes(entries: list[HistoryEntry]) -> tuple[HistoryEntry, ...]:
    changed = entries[:1]
    for before, entry in pairwise(entries):
        comparable = before.setting == entry.setting and before.price_ms > 0
        changed.append(replace(entry, change=entry.price_ms / before.price_ms) if comparable else entry)
    return tuple(changed)
