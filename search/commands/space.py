"""Say which networks the choices of your own model make, and have a device make their table.

    search space my_model.py:make_model --input 3x96x96
    search space my_model.py:make_model --input 3x96x96 --device rpi4 --lut-url http://server:8700

This runs the file's own code. Without --device nothing is measured and no server is asked.
"""

from __future__ import annotations

import argparse

from search.commands.server import connect
from search.device.own_table import get_own_table
from search.family.reach import describe_reach
from search.own_model.examine import examine
from search.own_model.model_file import load_model, parse_input
from search.process.progress import working_progress
from shared.command_line import Commands, Parser, add_command, add_server
from shared.errors import WrongUse
from shared.tables.table_text import describe_errors


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "space", run, __doc__)
    parser.add_argument("model", metavar="FILE.py:FUNCTION", help="function that makes the model")
    parser.add_argument("--input", required=True, metavar="CxHxW", help="shape of an image, for example 3x96x96")
    parser.add_argument("--device", metavar="NAME", help="that measures the networks, unless it has")
    parser.add_argument("--runtime", help="of the table, or parts of it; default: that of the device's newest")
    add_server(parser, "search", required=False)


def run(args: argparse.Namespace) -> None:
    if (args.device is None) != (args.lut_url is None):
        raise WrongUse("--device and --lut-url go together: the device measures the networks that the server has")
    own = examine(load_model(args.model), parse_input(args.input))
    square = own.input_shape.height == own.input_shape.width
    print(f"space     {own.space if square else f'none: a table needs square images, not {own.input_shape}'}")
    print(f"networks  {own.networks:,}, of {len(own.choices)} choices, {own.classes} classes")
    for choice in own.choices:
        places = f"  ({', '.join(choice.places)})" if len(choice.places) > 1 else ""
        print(f"  {choice.name}: {', '.join(choice.candidates)}{places}")
    if args.device is None:
        return
    with connect(args.lut_url, args) as client:
        table = get_own_table(client, own, args.device, args.runtime, working_progress())
    print(f"table     {table.hash}\n{describe_reach(table)}\n\n{describe_errors(table)}")
