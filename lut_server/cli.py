"""lut-server: serve the lookup tables, and look after tokens, devices and tables.

Exit codes: 0 done, 1 it failed, 2 wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lut_server.addresses import is_loopback
from lut_server.auth import ROLES, create_token
from lut_server.commands.fleet import add_fleet
from lut_server.commands.operations import add_operations
from lut_server.commands.pair import add_pairing
from lut_server.commands.transfer import add_export, add_import
from lut_server.commands.web_runtime import add_web_runtime
from lut_server.settings import SETTINGS, Setting, Settings, read_settings
from lut_server.store.sql import Store, open_store
from lut_server.store.sql.tokens import TokenStore
from lut_server.tables.predict import prediction_lines
from lut_server.tables.table_lookup import get_table
from lut_server.tables.text_table import describe
from shared import __version__
from shared.errors import InvalidValue, LutnasError
from shared.tables.table import LatencyTable, read_table
from shared.tables.table_text import align

if TYPE_CHECKING:
    from lut_server.tls.own_certificate import OwnCertificate, ServedCertificate

Command = Callable[[argparse.Namespace, Settings], None]


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        command(arguments, read_settings(vars(arguments), os.environ if environment is None else environment))
    except LutnasError as error:
        print(f"lut-server: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read the output has gone; nothing is left to be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lut-server", description="The lookup-table server of lutnas.")
    parser.add_argument("--version", action="version", version=f"lut-server {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    by_name = {setting.name: setting for setting in SETTINGS}

    def add(group: Any, name: str, help_: str, command: Command, settings: Sequence[str] = ("database_url",)) -> Any:
        one = group.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
        one.set_defaults(command=command)
        for setting in settings:
            _add_setting(one, by_name[setting])
        return one

    add(commands, "serve", "migrate the database and serve over HTTP", _serve, tuple(by_name))
    token = commands.add_parser("token", help="create, list and revoke tokens").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = add(token, "create", "create a token and print it, this once", _token_create)
    create.add_argument("--role", required=True, choices=ROLES, help="each may do what the ones before it may")
    create.add_argument("--name", default="", help="who it is for")
    create.add_argument("--device", help="the one device that it may act for")
    create.add_argument("--days", type=float, help="after which it ends; default: never")
    add(token, "list", "list all tokens, without their secrets", _token_list)
    add(token, "revoke", "revoke a token", _token_revoke).add_argument("id")
    add_pairing(commands, add)
    add_fleet(commands, add)
    table = commands.add_parser("table", help="look at a latency table").add_subparsers(required=True, metavar="ACTION")
    _add_table(add(table, "show", "print a device's newest table", _table_show))
    listed = add(table, "list", "list the tables, the newest last: spaces, runtimes, held-out errors", _table_list)
    listed.add_argument("--device", help="of one device alone")
    predict = add(commands, "predict", "say what a device's newest table says of networks", _predict)
    _add_table(predict)
    predict.add_argument("--kernels", type=Path, metavar="FILE", help="JSON of kernel counts, one network")
    predict.add_argument("genotypes", nargs="*", metavar="GENOTYPE", help="of the table's space")
    add_export(commands, add)
    add_import(commands, add)
    add_operations(commands, add)
    add_web_runtime(commands, add)
    return parser


def _add_setting(parser: argparse.ArgumentParser, setting: Setting) -> None:
    parser.add_argument(
        setting.flag,
        type=setting.kind,
        choices=setting.choices or None,
        help=f"{setting.help} (environment: {setting.variable}; default: {setting.default})",
    )


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", required=True)
    parser.add_argument("--space", default="", help="a space, or its first parts; default: any")
    parser.add_argument(
        "--runtime", help="a runtime, or some of its parts, for example CUDAExecutionProvider/threads=1; default: any"
    )


def _serve(_: argparse.Namespace, settings: Settings) -> None:
    # Imported here: the other commands need no web framework.
    from lut_server.app import create_app
    from lut_server.serving import serve

    app = create_app(settings)
    _require_tokens(app.state.services.store.tokens, settings, is_loopback(settings.host))
    own = _own_certificate(settings, app.state.services.store.database.path) if settings.tls == "self-signed" else None
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


def _own_certificate(settings: Settings, database: Path | None) -> OwnCertificate:
    try:
        from lut_server.tls.own_certificate import OwnCertificate
    except ImportError as error:
        raise LutnasError("--tls self-signed needs cryptography: pip install 'lutnas[tls]'") from error
    if settings.tls_dir:
        folder = Path(settings.tls_dir)
    elif database is not None:
        folder = database.with_name(f"{database.stem}-tls")
    else:
        raise InvalidValue("tls_dir", "is needed beside PostgreSQL: a folder for the certificate of --tls self-signed")
    return OwnCertificate(folder, settings.more_names)


def _describe_certificate(served: ServedCertificate) -> None:
    print(
        f"lut-server: the certificate is this server's own; browsers warn once: compare SHA-256 {served.fingerprint}; "
        f"agents trust it with --ca-file and a copy of {served.authority}",
        file=sys.stderr,
        flush=True,
    )


def _announce(url: str) -> None:
    print(f"lut-server listening on {url}", flush=True)


def _token_create(arguments: argparse.Namespace, settings: Settings) -> None:
    tokens = _open(settings).tokens
    print(create_token(tokens, arguments.role, arguments.name, arguments.device, days=arguments.days))


def _token_list(_: argparse.Namespace, settings: Settings) -> None:
    rows = [
        (
            one.id,
            one.role,
            one.device or "any",
            one.created_at,
            one.last_used_at or "never",
            one.expires_at or "never",
            one.revoked_at or "no",
            one.name,
        )
        for one in _open(settings).tokens.list()
    ]
    print(align(("id", "role", "device", "created", "last used", "ends", "revoked", "name"), rows))


def _token_revoke(arguments: argparse.Namespace, settings: Settings) -> None:
    token = _open(settings).tokens.revoke(arguments.id)
    print(f"token {token.id} is revoked")


def _table_show(arguments: argparse.Namespace, settings: Settings) -> None:
    print(describe(_read_table(_open(settings), arguments)))


def _predict(arguments: argparse.Namespace, settings: Settings) -> None:
    store = _open(settings)
    for line in prediction_lines(store, arguments.device, arguments.space, arguments.genotypes, arguments.kernels):
        print(line)


def _table_list(arguments: argparse.Namespace, settings: Settings) -> None:
    store = _open(settings)
    if arguments.device is not None:
        store.devices.get(arguments.device)
    rows = [
        (
            one.device,
            one.space,
            one.runtime,
            "" if one.held_out is None else f"{one.held_out.mape_percent:.2f} %",
            one.created_at,
            one.hash[:12],
        )
        for one in store.tables.list(arguments.device)
    ]
    print(align(("device", "space", "runtime", "held-out error", "created", "hash"), rows))


def _open(settings: Settings) -> Store:
    return open_store(settings.database_url)


def _table_bytes(store: Store, arguments: argparse.Namespace) -> bytes:
    return store.tables.get_bytes(get_table(store, arguments.device, arguments.space, arguments.runtime).hash)


def _read_table(store: Store, arguments: argparse.Namespace) -> LatencyTable:
    return read_table(json.loads(_table_bytes(store, arguments)))


if __name__ == "__main__":
    sys.exit(main())
