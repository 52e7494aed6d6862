"""A run's folder as one of its devices sees it: its table, and the folder of what follows from that table."""

from __future__ import annotations

from pathlib import Path

from search.runs.run_directory import RunDirectory, require_one_space
from shared.errors import UnknownName, WrongUse
from shared.tables.table import LatencyTable

DEVICES_FOLDER = "devices"


class DeviceRun(RunDirectory):
    """A run and one device, which may not have been in the search.

    Args:
        run: opened; what was read of it is not read again.
        table: of the device.

    Raises:
        InvalidValue: the table is of another space.
    """

    def __init__(self, run: RunDirectory, table: LatencyTable) -> None:
        require_one_space([*run.tables, table])
        super().__init__(run.path)
        vars(self).update(vars(run))
        self.table = table

    @property
    def folder(self) -> Path:
        """Of what belongs to the device: the run's own if that is its only device."""
        return self.path if self.tables == (self.table,) else self.path / DEVICES_FOLDER / self.table.device

    @property
    def family_path(self) -> Path:
        """Written by `search.family.family`."""
        return self.folder / "family.json"


def on_device(run: RunDirectory, device: str | None = None) -> DeviceRun:
    """The run as one of its devices sees it; None means the only one.

    Raises:
        WrongUse: the run has several, and none was named.
        UnknownName: it has no such device.
    """
    devices = run.config.devices
    if device is None and len(devices) > 1:
        raise WrongUse(f"{run.path} has several devices, say which: --device {' | '.join(devices)}")
    device = device or devices[0]
    if device not in devices:
        raise UnknownName("device of the run", device, devices)
    return DeviceRun(run, run.tables[devices.index(device)])


def on_every_device(run: RunDirectory) -> list[DeviceRun]:
    """The run as each of its devices sees it."""
    return [DeviceRun(run, table) for table in run.tables]
