"""Create, list and revoke tokens."""

from __future__ import annotations

import argparse

from lut_server.auth import ROLES, create_token
from lut_server.commands.options import add_store_command, existing_store, opened_store
from shared.command_line import Commands, Parser, add_actions
from shared.tables.table_text import align


def add(commands: Commands[Parser]) -> None:
    actions = add_actions(commands, "token", f"{__doc__}\n\n    lut-server token create --role agent --device rpi4")
    create = add_store_command(actions, "create", create_and_print)
    create.add_argument("--role", required=True, choices=ROLES, help="each may do what the ones before it may")
    create.add_argument("--name", default="", help="who it is for")
    create.add_argument("--device", metavar="NAME", help="the only device that it may act for")
    create.add_argument("--days", type=float, metavar="N", help="after which it ends; default: never")
    add_store_command(actions, "list", list_all)
    add_store_command(actions, "revoke", revoke).add_argument("id", metavar="ID")


def create_and_print(arguments: argparse.Namespace) -> None:
    """Create a token and print it, this once.

    lut-server token create --role agent --device rpi4
    """
    with opened_store(arguments) as store:
        print(create_token(store.tokens, arguments.role, arguments.name, arguments.device, days=arguments.days))


def list_all(arguments: argparse.Namespace) -> None:
    """List all tokens, without their secrets.

    lut-server token list
    """
    with existing_store(arguments) as store:
        rows = [
            (
                token.id,
                token.role,
                token.device or "any",
                token.created_at,
                token.last_used_at or "never",
                token.expires_at or "never",
                token.revoked_at or "no",
                token.name,
            )
            for token in store.tokens.list()
        ]
    print(align(("id", "role", "device", "created", "last used", "ends", "revoked", "name"), rows))


def revoke(arguments: argparse.Namespace) -> None:
    """Revoke a token.

    lut-server token revoke ID
    """
    with existing_store(arguments) as store:
        print(f"token {store.tokens.revoke(arguments.id).id} is revoked")
