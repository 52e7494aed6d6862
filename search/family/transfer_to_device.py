"""The family of a device that was not in the search, from its table alone.

The table gives the condition, the condition the alphas; nothing is trained. The first request
builds the family under `devices/NAME/` and keeps the table beside the run's own. Later requests
change neither.
"""

from __future__ import annotations

from search.alphas.condition import device_simplex
from search.config import TableReference
from search.device.lut_client import LutClient
from search.family.build import build_unseen_family
from search.family.family import load_family
from search.process.progress import Progress
from search.runs.run_directory import (
    DEVICES_FOLDER,
    DeviceRun,
    RunDirectory,
    on_every_device,
    read_json,
    read_kept_table,
    require_fp32,
    write_table,
)
from shared.errors import CorruptFile, NotFound, ServerAway
from shared.runtime import check_device_name
from shared.tables.table import LatencyTable


def find_unseen(run: RunDirectory, device: str) -> DeviceRun | None:
    """The view of a new device from an earlier request; None if there was none.

    Raises:
        InvalidValue: this is no device name.
        CorruptFile: the family is damaged.
    """
    check_device_name(device)
    path = run.path / DEVICES_FOLDER / device / "family.json"
    if not path.exists():
        return None
    family = read_json(path)
    if not (isinstance(family, dict) and isinstance(family.get("table_hash"), str)):
        raise CorruptFile(f"{path} is damaged: it names no table")
    return DeviceRun(run, read_kept_table(run.path, TableReference(device, family["table_hash"])))


def ask_about_unseen(run: RunDirectory, device: str, client: LutClient, progress: Progress) -> DeviceRun:
    """The view of a device that is new to the run, its family built from the server's table.

    Raises:
        ServerAway, ServerRefused: from `LutClient`; the message names the run's own devices.
        InvalidValue: the device's table is of another space than the run, or not of fp32.
        MissingPrice: the table lacks op keys.
        WrongUse, CorruptFile: the run is not finished, or damaged.
    """
    load_family(on_every_device(run)[0])  # first: raises for an unfinished run
    own = ", ".join(run.config.devices)
    try:
        table = _newest_table(run, device, client)
    except ServerAway as error:
        raise ServerAway(f"the run has no device {device} (it has: {own}), and {error}") from error
    view = DeviceRun(run, table)
    require_fp32(table)
    device_simplex(table)
    progress.line(
        f"{device} was not in the search (that had {own}): its family, from its table {table.hash[:12]} alone"
    )
    write_table(run.path, table)
    build_unseen_family(view, progress)
    return view


def _newest_table(run: RunDirectory, device: str, client: LutClient) -> LatencyTable:
    """The table of the run's space, or any: the error then names both spaces."""
    try:
        return client.get_table(device, run.config.space)
    except NotFound as error:
        if error.code != "no_table":
            raise
        return client.get_table(device)
