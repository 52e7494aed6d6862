"""Devices: who was heard of, what each is doing, what was measured last and whether to believe it, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lut_server.fleet.rows import DeviceRow, Fleet
from lut_server.pages.paging import Paging, part
from lut_server.store.sql import Store
from lut_server.store.values import StoredRun, TableSummary
from lut_server.tables.table_facts import FactsReader

DEVICES = 20


@dataclass(frozen=True)
class DevicesView:
    """The devices, those heard of last first."""

    devices: tuple[DeviceRow, ...]
    paging: Paging


@dataclass(frozen=True)
class DeviceView:
    """One device with its tables and runs, the newest first."""

    row: DeviceRow
    tables: tuple[TableSummary, ...]
    runs: tuple[StoredRun, ...]
    paging: Paging


def view_devices(store: Store, facts: FactsReader, now: datetime, page: int) -> DevicesView:
    """One page of all devices."""
    fleet = Fleet(store, facts, now)
    shown, paging = part(fleet.devices(), page, DEVICES)
    return DevicesView(tuple(map(fleet.row, shown)), paging)


def view_device(store: Store, facts: FactsReader, now: datetime, name: str, page: int) -> DeviceView:
    """One device.

    Raises:
        NotFound: unknown_device.
    """
    device, fleet = store.devices.get(name), Fleet(store, facts, now)
    runs, paging = part(store.runs.list(name)[::-1], page)
    return DeviceView(fleet.row(device), fleet.tables(name)[::-1], runs, paging)
