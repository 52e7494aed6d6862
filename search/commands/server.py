"""How the commands reach the table server: the token, and whom to trust."""

from __future__ import annotations

import os

from search.device.lut_client import LutClient
from shared.http.trust import CA_FILE_VARIABLE


def connect(url: str, token: str | None) -> LutClient:
    """The client of a server; token and trusted certificates may come from the environment."""
    token = token or os.environ.get("LUTNAS_TOKEN")
    return LutClient(url, token, ca_file=os.environ.get(CA_FILE_VARIABLE) or None)
