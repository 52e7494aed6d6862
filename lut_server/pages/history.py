"""What one op cost over the versions of the runtime: every table of a device that has its key."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
        setting: everything else of the runtime, and the space: entries of one setting differ by version and time alone.
        change: price over that of the entry before of the same setting; None for the first.
    """

    table: str
    created_at: str
    version: str
    version_order: tuple[int, ...]
    setting: str
    price_ms: float
    sd_ms: float
    stable: bool
    change: float | None


@dataclass(frozen=True)
class HistoryView:
    """An op of a device over time.

    Attributes:
        devices, op_keys: what can be asked for.
        entries: by setting, then by version, then by age.
        skipped: older tables that were not looked into.
    """

    device: str | None
    op_key: str | None
    devices: tuple[str, ...]
    op_keys: tuple[str, ...]
    entries: tuple[HistoryEntry, ...]
    skipped: int


def view_history(store: Store, facts: FactsReader, device: str | None, op_key: str | None) -> HistoryView:
    """The history of an op; without a device or an op, what there is to choose from.

    Raises:
        NotFound: unknown_device.
    """
    every = store.tables.list()
    devices = tuple(sorted({one.device for one in every}))
    if not device:
        return HistoryView(None, None, devices, (), (), 0)
    store.devices.get(device)
    tables = [one for one in every if one.device == device]
    shown = tables[-MOST_TABLES:]
    op_keys = sorted({price.op_key for one in shown for price in facts.get(one.hash).prices})
    chosen = op_key or (op_keys[0] if op_keys else None)
    found = [(one, facts.get(one.hash)) for one in shown]
    entries = [
        _entry(one, known.runtime, price) for one, known in found for price in known.prices if price.op_key == chosen
    ]
    entries.sort(key=lambda entry: (entry.setting, entry.version_order, entry.created_at))
    return HistoryView(device, chosen, devices, tuple(op_keys), _with_changes(entries), len(tables) - len(shown))


def version_order(version: str) -> tuple[int, ...]:
    """What versions are sorted by: 1.9 comes before 1.10."""
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version))


def _entry(table: TableSummary, runtime: Runtime, price: OpPrice) -> HistoryEntry:
    return HistoryEntry(
        table.hash,
        table.created_at,
        f"{runtime.engine} {runtime.version}",
        version_order(runtime.version),
        f"{str(runtime).partition('/')[2]}, {table.space}",
        price.price_ms,
        price.sd_ms,
        price.stable,
        None,
    )


def _with_changes(entries: list[HistoryEntry]) -> tuple[HistoryEntry, ...]:
    changed = []
    for index, entry in enumerate(entries):
        before = entries[index - 1] if index and entries[index - 1].setting == entry.setting else None
        change = entry.price_ms / before.price_ms if before and before.price_ms > 0 else None
        changed.append(HistoryEntry(**{**vars(entry), "change": change}))
    return tuple(changed)
