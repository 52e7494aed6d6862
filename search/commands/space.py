"""Say which networks the choices of your own model make, and what is wrong with it.

    search space my_model.py:make_model --input 3x96x96

This runs the file's own code. Nothing is measured and no server is asked.
"""

from __future__ import annotations

import argparse
import re

from search.own_model.examine import examine
from search.own_model.model_file import load_model
from shared.command_line import Commands, Parser, add_command
from shared.errors import InvalidValue
from shared.spaces.op_key import Shape


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "space", run, __doc__)
    parser.add_argument("model", metavar="FILE.py:FUNCTION", help="function that makes the model")
    parser.add_argument("--input", required=True, metavar="CxHxW", help="shape of an image, for example 3x96x96")


def run(args: argparse.Namespace) -> None:
    own = examine(load_model(args.model), _shape(args.input))
    print(f"space     {own.space}")
    print(f"networks  {own.networks:,}, of {len(own.choices)} choices, {own.classes} classes")
    for choice in own.choices:
        places = f"  ({', '.join(choice.places)})" if len(choice.places) > 1 else ""
        print(f"  {choice.name}: {', '.join(choice.candidates)}{places}")


def _shape(text: str) -> Shape:
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})x(\d{1,4})", text)
    if match is None:
        raise InvalidValue("input", f"'{text[:40]}' does not read CxHxW, as 3x96x96 does")
    return Shape(*map(int, match.groups()))
