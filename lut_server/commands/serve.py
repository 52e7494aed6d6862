"""Migrate the database and serve over HTTP.

lut-server serve --host 0.0.0.0 --port 8700 --first-token yes
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lut_server.addresses import is_loopback
from lut_server.auth import create_token
from lut_server.commands.options import add_settings, chosen_settings
from lut_server.settings import SETTINGS, Settings, split_names
from lut_server.store.sql.tokens import TokenStore
from shared.command_line import Commands, Parser, add_command
from shared.errors import InvalidValue, LutnasError

if TYPE_CHECKING:
    from lut_server.tls.own_certificate import OwnCertificate, ServedCertificate

OFTEN = ("host", "port", "database_url", "reads", "first_token", "tls")


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "serve", run, __doc__)
    add_settings(parser, *OFTEN)
    others = [setting.name for setting in SETTINGS if setting.name not in OFTEN]
    add_settings(parser.add_argument_group("advanced"), *others)


def run(arguments: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    # Imported here: the other commands need no web framework.
    from lut_server.app import create_app
    from lut_server.serving import serve

    settings = chosen_settings(arguments)
    app = create_app(settings)
    _require_tokens(app.state.services.store.tokens, settings, is_loopback(settings.host))
    own = _own_certificate(settings) if settings.tls == "self-signed" else None
    if own is not None:
        _describe_certificate(own.ensure())
    serve(app, settings, _announce, own)


def _require_tokens(tokens: TokenStore, settings: Settings, only_this_machine: bool) -> None:
    """A server that a network can reach never starts without an owner."""
    if tokens.list():
        return
    if settings.first_token == "yes":
        token = create_token(tokens, "admin", "first token")
        print(f"lut-server: the first token, of role admin, shown this once: {token}", file=sys.stderr, flush=True)
    elif not only_this_machine:
        raise InvalidValue(
            "host",
            f"{settings.host} can be reached from the network and no token exists yet; make one with `lut-server token "
            "create --role admin`, or start with --first-token yes, which makes one and prints it",
        )


def _own_certificate(settings: Settings) -> OwnCertificate:
    try:
        from lut_server.tls.own_certificate import OwnCertificate
    except ImportError as error:
        raise LutnasError("--tls self-signed needs cryptography: pip install 'lutnas[tls]'") from error
    if settings.tls_dir:
        folder = Path(settings.tls_dir)
    elif settings.database_path is not None:
        folder = settings.database_path.with_name(f"{settings.database_path.stem}-tls")
    else:
        raise InvalidValue("tls_dir", "is needed beside PostgreSQL: a folder for the certificate of --tls self-signed")
    return OwnCertificate(folder, split_names(settings.tls_names))


def _describe_certificate(served: ServedCertificate) -> None:
    print(
        f"lut-server: the certificate is this server's own; browsers warn once: compare SHA-256 {served.fingerprint}; "
        f"agents trust it with --ca-file and a copy of {served.authority}",
        file=sys.stderr,
        flush=True,
    )


def _announce(url: str) -> None:
    print(f"lut-server listening on {url}", flush=True)
