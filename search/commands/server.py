"""How the commands reach the table server."""

from __future__ import annotations

import argparse

from search.device.lut_client import LutClient
from shared.command_line import find_access


def connect(url: str, args: argparse.Namespace) -> LutClient:
    """The client of a server, with token and certificates from the options or the environment."""
    token, ca_file = find_access(args)
    return LutClient(url, token, ca_file=ca_file)
