"""How the commands reach a server: the token, and whom to trust."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import InvalidValue
from shared.http.trust import CA_FILE_VARIABLE

if TYPE_CHECKING:
    from profiler_agent.server.server_client import ServerClient


def add_access(parser: argparse.ArgumentParser, token_for: str = "with the role agent") -> None:
    """--token, --token-file, --ca-file."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--token", metavar="T", help=f"{token_for} (or LUTNAS_TOKEN)")
    one.add_argument("--token-file", metavar="FILE", help="a file that holds the token alone (or LUTNAS_TOKEN_FILE)")
    parser.add_argument(
        "--ca-file",
        metavar="FILE",
        help=f"certificates to trust, for a server that made its own (or {CA_FILE_VARIABLE})",
    )


def open_client(arguments: argparse.Namespace) -> ServerClient:
    """The client of the server that the options name."""
    from profiler_agent.server.server_client import ServerClient

    ca_file = arguments.ca_file or os.environ.get(CA_FILE_VARIABLE) or None
    return ServerClient(arguments.server, find_token(arguments), ca_file=ca_file)


def find_token(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> str | None:
    """The token that a command shall use, if there is one.

    What stands on a command line, everybody on the machine may read; a file or the environment, nobody else may.

    Raises:
        InvalidValue: the file cannot be read, or holds no token.
    """
    if arguments.token:
        return str(arguments.token)
    if not arguments.token_file and environment.get("LUTNAS_TOKEN"):
        return environment["LUTNAS_TOKEN"]
    file = arguments.token_file or environment.get("LUTNAS_TOKEN_FILE")
    return _read(Path(file)) if file else None


def _read(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise InvalidValue("token-file", f"{path}: {reason}") from error
    if not token or len(token.split()) > 1:
        raise InvalidValue("token-file", f"{path} does not hold one token and nothing else")
    return token
