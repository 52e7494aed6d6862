"""`lut-server web-runtime`: onnxruntime-web for the page that measures phones."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lut_server.settings import Settings
from lut_server.web_agent.web_runtime import PACKAGE, find_runtime, install, missing_line, runtime_folder
from shared.errors import LutnasError

Add = Callable[..., argparse.ArgumentParser]
_SETTINGS = ("database_url", "web_runtime")


def add_web_runtime(commands: Any, add: Add) -> None:
    """Add the commands to the parser."""
    actions = commands.add_parser("web-runtime", help="onnxruntime-web, which phones measure with").add_subparsers(
        required=True, metavar="ACTION"
    )
    made = add(actions, "install", f"fetch {PACKAGE} with npm, check it and keep what is needed", _install, _SETTINGS)
    made.add_argument("--from", dest="package", type=Path, metavar="FILE.tgz", help=f"what `npm pack {PACKAGE}` made")
    add(actions, "show", "say where it is", _show, _SETTINGS)


def _install(arguments: argparse.Namespace, settings: Settings) -> None:
    print(f"{PACKAGE} is in {install(runtime_folder(settings), arguments.package)}")


def _show(_: argparse.Namespace, settings: Settings) -> None:
    folder = runtime_folder(settings)
    found = find_runtime(folder)
    if found is None:
        raise LutnasError(missing_line(folder))
    print(f"{PACKAGE} is in {found}")
