"""The fleet: which devices there are, and profiles for those that lack tables."""

from __future__ import annotations

import argparse
import json

from lut_server.clock import utc_now
from lut_server.commands.options import add_store_command, existing_store
from lut_server.fleet.queue_profiles import Wanted, ask_for_missing
from lut_server.fleet.rows import DeviceRow, Fleet
from lut_server.tables.table_facts import FactsReader
from shared.command_line import Commands, Parser
from shared.runtime import PRECISIONS
from shared.tables.table_text import align
from shared.wire import to_wire


def add(commands: Commands[Parser]) -> None:
    devices = add_store_command(commands, "devices", list_devices)
    devices.add_argument("--json", action="store_true", help="all that is known, as one JSON object")
    profile = add_store_command(commands, "profile", ask_for_profiles)
    whom = profile.add_mutually_exclusive_group(required=True)
    whom.add_argument("--all-missing", action="store_true", help="ask every device")
    whom.add_argument("--device", nargs="+", metavar="NAME", help="ask these devices")
    profile.add_argument(
        "--space",
        nargs="+",
        default=[],
        metavar="SPACE",
        help="whose tables, whole or the first parts (default: every space that any device has a table of)",
    )
    profile.add_argument(
        "--threads", type=int, metavar="N", help="of one inference (default: as the device's newest table)"
    )
    profile.add_argument("--precision", choices=PRECISIONS, help="(default: as the device's newest table)")
    profile.add_argument("--json", action="store_true", help="as one JSON object")


def list_devices(arguments: argparse.Namespace) -> None:
    """List the devices: who is alive, doing what, how it is, what is missing.

    lut-server devices
    """
    with existing_store(arguments) as store:
        fleet = Fleet(store, FactsReader(store.tables), utc_now())
        rows = [fleet.row(device) for device in fleet.devices()]
    if arguments.json:
        print(json.dumps({"devices": to_wire(rows)}, indent=2))
        return
    columns = ("device", "state", "last seen", "doing", "temperature", "verdict", "tables", "missing")
    cells = [
        (
            row.device.name,
            row.health,
            row.device.last_seen_at[:19],
            row.activity.says + (f" (and {row.queued} queued)" if row.queued else ""),
            describe_temperature(row),
            describe_verdict(row),
            row.tables,
            "; ".join(row.missing) or "nothing",
        )
        for row in rows
    ]
    print(align(columns, cells))


def describe_temperature(row: DeviceRow) -> str:
    """The temperature that the agent said last; old ones say nothing of now."""
    status = row.device.status
    if row.problems is None or status is None or status.temperature_c is None:
        return "unknown"
    return f"{status.temperature_c:.0f} C"


def describe_verdict(row: DeviceRow) -> str:
    """What is wrong right now, and how much of the newest run was stable."""
    now = list(row.problems or ())
    of_run = [f"{row.verdict.stable} of {row.verdict.ops} ops stable"] if row.verdict else []
    return ", ".join(now + of_run) or "none yet"


def ask_for_profiles(arguments: argparse.Namespace) -> None:
    """Ask devices for tables that they lack, by profile jobs.

    lut-server profile --all-missing
    """
    wanted = Wanted(tuple(arguments.space), tuple(arguments.device or ()), arguments.threads, arguments.precision)
    with existing_store(arguments) as store:
        asked = ask_for_missing(store, wanted, utc_now())
    if arguments.json:
        print(json.dumps({"asked": to_wire(list(asked))}, indent=2))
        return
    cells = [
        (row.device, row.space, row.runtime, row.outcome, (row.job or "")[:12], "yes" if row.alive else "no")
        for row in asked
    ]
    print(align(("device", "space", "runtime", "outcome", "job", "alive"), cells))
    for notice in dict.fromkeys(row.notice for row in asked if row.notice):
        print(notice)
