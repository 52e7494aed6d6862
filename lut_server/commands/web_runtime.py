"""Fetch onnxruntime-web, which phones measure with, or say where it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from lut_server.commands.options import add_settings, add_store_command, chosen_settings
from lut_server.web_agent.web_runtime import PACKAGE, find_runtime, install, missing_line, runtime_folder
from shared.command_line import Commands, Parser, add_actions
from shared.errors import LutnasError


def add(commands: Commands[Parser]) -> None:
    actions = add_actions(commands, "web-runtime", f"{__doc__}\n\n    lut-server web-runtime install")
    fetch = add_store_command(actions, "install", fetch_runtime)
    fetch.add_argument("--from", dest="package", type=Path, metavar="FILE", help=f"what `npm pack {PACKAGE}` made")
    for parser in (fetch, add_store_command(actions, "show", show)):
        add_settings(parser, "web_runtime")


def fetch_runtime(arguments: argparse.Namespace) -> None:
    """Fetch onnxruntime-web with npm, check it and keep what is needed.

    lut-server web-runtime install
    """
    print(f"{PACKAGE} is in {install(runtime_folder(chosen_settings(arguments)), arguments.package)}")


def show(arguments: argparse.Namespace) -> None:
    """Say where onnxruntime-web is.

    lut-server web-runtime show
    """
    folder = runtime_folder(chosen_settings(arguments))
    found = find_runtime(folder)
    if found is None:
        raise LutnasError(missing_line(folder))
    print(f"{PACKAGE} is in {found}")
