"""Show a link, a QR code and a one-time code that make a phone a device.

lut-server pair --device my-phone
"""

from __future__ import annotations

import argparse
import io
import sys
from datetime import datetime

import segno

from lut_server.clock import stamp, utc_now
from lut_server.commands.options import add_settings, add_store_command, chosen_settings, existing_store, opened_store
from lut_server.pairing.codes import NewCode, create_code
from lut_server.pairing.reachable_urls import Reach, find_reach
from lut_server.store.values import Pairing
from shared.command_line import Commands, Parser
from shared.errors import WrongUse
from shared.tables.table_text import align

PAGE = "/agent/web"
"""The page that measures in a browser."""


def add(commands: Commands[Parser]) -> None:
    pair = add_store_command(commands, "pair", run, __doc__)
    what = pair.add_mutually_exclusive_group(required=True)
    what.add_argument("--device", metavar="NAME", help="what the phone shall be called")
    what.add_argument("--list", action="store_true", help="list the codes, without the codes")
    what.add_argument("--revoke", metavar="NAME", help="end the device's code")
    pair.add_argument("--server-url", metavar="URL", help="at which the phone reaches the server (default: found out)")
    add_settings(pair, "port")
    pair.add_argument(
        "--minutes", type=float, default=10, metavar="N", help="how long the code is good for (default: %(default)s)"
    )
    pair.add_argument(
        "--token-days",
        type=float,
        default=30,
        metavar="N",
        help="how long the phone's token is good for (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Show a new code, list the codes, or end one."""
    if arguments.list:
        _list(arguments)
    elif arguments.revoke is not None:
        _revoke(arguments)
    else:
        _show(arguments)


def _show(arguments: argparse.Namespace) -> None:
    settings = chosen_settings(arguments)
    reach = find_reach(arguments.server_url, settings.port, settings.scheme)
    with opened_store(arguments) as store:
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


def _list(arguments: argparse.Namespace) -> None:
    with existing_store(arguments) as store:
        rows = [(code.device, code.created_at, code.expires_at, _state(code)) for code in store.pairings.list()]
    print(align(("device", "created", "ends", "state"), rows))


def _state(pairing: Pairing) -> str:
    if pairing.token is not None:
        return f"used for token {pairing.token}"
    return "ended" if pairing.expires_at <= stamp(utc_now()) else "open"


def _revoke(arguments: argparse.Namespace) -> None:
    device = arguments.revoke
    with existing_store(arguments) as store:
        if not store.pairings.end(device):
            raise WrongUse(f"'{device}' has no open code; `lut-server pair --list` shows all")
    print(f"the code of {device} is ended")


_QUIET = 2
"""Modules of margin; the standard asks for four, readers take two."""
_WHITE_ON_BLACK, _PLAIN = "\033[38;5;231;48;5;16m", "\033[0m"


def qr_lines(text: str, colour: bool) -> list[str]:
    """The code of a text. Light modules are drawn, which without `colour` takes a dark terminal."""
    drawn = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(drawn, border=_QUIET, compact=True)
    lines = drawn.getvalue().splitlines()
    return [f"{_WHITE_ON_BLACK}{line}{_PLAIN}" for line in lines] if colour else lines
