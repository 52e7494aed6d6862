"""How the commands reach a server: the token, and whom to trust."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from shared.trust import CA_FILE_VARIABLE

if TYPE_CHECKING:
    from profiler_agent.server_client import ServerClient


def add_access(parser: argparse.ArgumentParser, token_for: str = "with the role agent") -> None:
    """--token, --ca-file."""
    parser.add_argument("--token", metavar="T", help=f"{token_for} (or LUTNAS_TOKEN)")
    parser.add_argument(
        "--ca-file",
        metavar="FILE",
        help=f"certificates to trust, for a server that made its own (or {CA_FILE_VARIABLE})",
    )


def open_client(arguments: argparse.Namespace) -> ServerClient:
    """The client of the server that the options name."""
    from profiler_agent.server_client import ServerClient

    token = arguments.token or os.environ.get("LUTNAS_TOKEN")
    return ServerClient(arguments.server, token, ca_file=arguments.ca_file or os.environ.get(CA_FILE_VARIABLE) or None)
