"""`lut-server pair`: a link, a QR code and a code to type, for a phone that shall become a device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

from lut_server.clock import stamp, utc_now
from lut_server.pairing.codes import NewCode, create_code
from lut_server.pairing.qr_code import qr_lines
from lut_server.pairing.reachable_urls import Reach, find_reach
from lut_server.settings import Settings
from lut_server.store.sql import open_store
from lut_server.store.store import Pairing
from shared.errors import WrongUse
from shared.tables.table_text import align

Add = Callable[..., argparse.ArgumentParser]
PAGE = "/agent/web"
"""The page that measures in a browser."""


def add_pairing(commands: Any, add: Add) -> None:
    """Add the command to the parser."""
    settings = ("database_url", "port")
    pair = add(commands, "pair", "show a link and a one-time code that make a phone a device", _pair, settings)
    what = pair.add_mutually_exclusive_group(required=True)
    what.add_argument("--device", metavar="NAME", help="what the phone shall be called")
    what.add_argument("--list", action="store_true", help="list the codes, without the codes")
    what.add_argument("--revoke", metavar="NAME", help="end the device's code")
    pair.add_argument("--server-url", metavar="URL", help="at which the phone reaches the server (default: found out)")
    pair.add_argument("--minutes", type=float, default=10, help="how long the code is good for (default: %(default)s)")
    pair.add_argument(
        "--token-days", type=float, default=30, help="how long the phone's token is good for (default: %(default)s)"
    )


def _pair(arguments: argparse.Namespace, settings: Settings) -> None:
    if arguments.list:
        _list(settings)
    elif arguments.revoke is not None:
        _revoke(arguments.revoke, settings)
    else:
        _show(arguments, settings)


def _show(arguments: argparse.Namespace, settings: Settings) -> None:
    reach = find_reach(arguments.server_url, settings.port, settings.scheme)
    with closing(open_store(settings.database_url)) as store:
        new = create_code(store.pairings, arguments.device, arguments.minutes, arguments.token_days)
    for line in describe_code(new, reach, colour=sys.stdout.isatty()):
        print(line)
    if reach.warning is not None:
        print(f"lut-server: {reach.warning}", file=sys.stderr)


def describe_code(new: NewCode, reach: Reach, colour: bool) -> list[str]:
    """What a person needs to pair a phone. The code stands behind the link's #: no server ever logs it."""
    device = new.pairing.device
    page = f"{reach.url}{PAGE}"
    link = f"{page}#device={device}&code={new.code}"
    ends = datetime.fromisoformat(new.pairing.expires_at).astimezone()
    certificate = [
        "The browser will warn of the server's own certificate, once. Go on if its SHA-256 is",
        f"    {reach.fingerprint}",
        "",
    ]
    return [
        f"To measure on {device}, scan this with its camera or open the link below it:",
        "",
        *qr_lines(link, colour),
        "",
        link,
        "",
        f"Or open {page} and type",
        f"    device  {device}",
        f"    code    {new.code}",
        "",
        *(certificate if reach.fingerprint else ()),
        f"The code works once, until {ends:%H:%M:%S}; the token it gives ends after {new.pairing.token_days:g} days.",
    ]


def _list(settings: Settings) -> None:
    with closing(open_store(settings.database_url)) as store:
        rows = [(one.device, one.created_at, one.expires_at, _state(one)) for one in store.pairings.list()]
    print(align(("device", "created", "ends", "state"), rows))


def _state(pairing: Pairing) -> str:
    if pairing.token is not None:
        return f"used for token {pairing.token}"
    return "ended" if pairing.expires_at <= stamp(utc_now()) else "open"


def _revoke(device: str, settings: Settings) -> None:
    with closing(open_store(settings.database_url)) as store:
        if not store.pairings.end(device):
            raise WrongUse(f"'{device}' has no open code; `lut-server pair --list` shows all")
    print(f"the code of {device} is ended")
