"""Devices: their health, what they do, their newest run and its verdict, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lut_server.fleet.rows import DeviceRow, Fleet
from lut_server.pages.paging import Paging, paginate
from lut_server.store.sql import Store
from lut_server.store.values import StoredRun, TableSummary
from lut_server.tables.table_facts import FactsReader

DEVICES = 20


@dataclass(frozen=True)
class DevicesView:
    """One page of the devices; the device seen last comes first."""

    devices: tuple[DeviceRow, ...]
    paging: Paging


@dataclass(frozen=True)
class DeviceView:
    """A device with its tables and runs, the newest first."""

    row: DeviceRow
    tables: tuple[TableSummary, ...]
    runs: tuple[StoredRun, ...]
    paging: Paging


def view_devices(store: Store, facts: FactsReader, now: datetime, page: int) -> DevicesView:
    fleet = Fleet(store, facts, now)
    shown, paging = paginate(fleet.devices(), page, DEVICES)
    return DevicesView(tuple(map(fleet.row, shown)), paging)


def view_device(store: Store, facts: FactsReader, now: datetime, name: str, page: int) -> DeviceView:
    """A device with a page of its runs.

    Raises:
        NotFound: unknown_device.
    """
    device, fleet = store.devices.get(name), Fleet(store, facts, now)
    runs, paging = paginate(store.runs.list(name)[::-1], page)
    return DeviceView(fleet.row(device), fleet.tables(name)[::-1], runs, paging)
