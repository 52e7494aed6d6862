"""Settings as options, and what is made from them."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, closing
from typing import Any

from lut_server.settings import SETTINGS, Settings, read_settings
from lut_server.store.sql import Store, open_store
from shared.command_line import Commands, Parser, Run, add_command
from shared.errors import WrongUse

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def add_settings(parser: Any, *names: str) -> None:
    """Options for settings."""
    for name in names:
        setting = _BY_NAME[name]
        parser.add_argument(
            setting.flag,
            type=setting.kind,
            choices=setting.choices or None,
            metavar=None if setting.choices else "X",
            help=f"{setting.help} (environment: {setting.variable}; default: {setting.default or 'none'})",
        )


def add_store_command(commands: Commands[Parser], name: str, run: Run, text: str | None = None) -> Parser:
    """A command on the database alone; it has --database-url, which stands last."""
    parser = add_command(commands, name, run, text)
    add_settings(parser.add_argument_group("database"), "database_url")
    return parser


def add_table(parser: Parser, required: bool = True) -> None:
    """--device, --space, --runtime: which table."""
    parser.add_argument("--device", required=required, metavar="NAME", help="whose newest table")
    parser.add_argument("--space", default="", help="a space, or its first parts; default: any")
    parser.add_argument(
        "--runtime", help="a runtime, or some of its parts, for example CUDAExecutionProvider/threads=1; default: any"
    )


def chosen_settings(arguments: argparse.Namespace) -> Settings:
    """The settings; an option wins over the environment."""
    return read_settings(vars(arguments), arguments.environment)


def opened_store(arguments: argparse.Namespace) -> AbstractContextManager[Store]:
    """The store of --database-url, closed at the end."""
    return closing(open_store(chosen_settings(arguments).database_url))


def existing_store(arguments: argparse.Namespace) -> AbstractContextManager[Store]:
    """The store of a database that is there; what only reads or changes one makes none by a wrong path.

    Raises:
        WrongUse: SQLite's file is not there.
    """
    path = chosen_settings(arguments).database_path
    if path is not None and not path.exists():
        raise WrongUse(f"there is no database {path.absolute()}; name the server's with --database-url")
    return opened_store(arguments)
