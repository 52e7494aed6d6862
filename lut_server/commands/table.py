"""Look at latency tables, and ask them."""

from __future__ import annotations

import argparse
from pathlib import Path

from lut_server.commands.options import add_store_command, add_table, existing_store
from lut_server.tables.predict import prediction_lines
from lut_server.tables.table_lookup import get_table
from shared.command_line import Commands, Parser, add_actions
from shared.tables.table_text import align, describe


def add(commands: Commands[Parser]) -> None:
    actions = add_actions(commands, "table", "Look at latency tables.\n\n    lut-server table show --device rpi4")
    add_table(add_store_command(actions, "show", show))
    listed = add_store_command(actions, "list", list_all)
    listed.add_argument("--device", metavar="NAME", help="of this device alone")
    predict = add_store_command(commands, "predict", print_predictions)
    predict.add_argument("genotypes", nargs="*", metavar="GENOTYPE", help="of the table's space")
    add_table(predict)
    predict.add_argument("--kernels", type=Path, metavar="FILE", help="JSON of kernel counts, one network")


def show(arguments: argparse.Namespace) -> None:
    """Print a device's newest table.

    lut-server table show --device rpi4
    """
    with existing_store(arguments) as store:
        table = store.tables.get(get_table(store, arguments.device, arguments.space, arguments.runtime).hash)
    print(describe(table))


def list_all(arguments: argparse.Namespace) -> None:
    """List the tables, the newest last: spaces, runtimes, held-out errors.

    lut-server table list
    """
    with existing_store(arguments) as store:
        if arguments.device is not None:
            store.devices.get(arguments.device)
        rows = [
            (
                table.device,
                table.space,
                table.runtime,
                "" if table.held_out is None else f"{table.held_out.mape_percent:.2f} %",
                table.created_at,
                table.hash[:12],
            )
            for table in store.tables.list(arguments.device)
        ]
    print(align(("device", "space", "runtime", "held-out error", "created", "hash"), rows))


def print_predictions(arguments: argparse.Namespace) -> None:
    """Say what a device's newest table says of networks.

    lut-server predict --device rpi4 --kernels counts.json
    """
    which = arguments.device, arguments.space, arguments.runtime
    with existing_store(arguments) as store:
        for line in prediction_lines(store, *which, arguments.genotypes, arguments.kernels):
            print(line)
