"""Tokens in the database."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from lut_server import error_codes
from lut_server.clock import stamp
from lut_server.store import schema
from lut_server.store.database import DatabaseStore
from lut_server.store.values import TokenRecord, TokenSummary
from shared.errors import LutnasError

_TOKENS = schema.tokens.c


class TokenStore(DatabaseStore):
    """Tokens by id. A secret is never stored, only what it is checked against."""

    def add(self, record: TokenRecord) -> None:
        """Store a token."""
        with self._database.write() as connection:
            connection.execute(insert(schema.tokens).values(token_values(record)))

    def find(self, token_id: str) -> TokenRecord | None:
        """The token, revoked or not."""
        with self._database.read() as connection:
            row = connection.execute(select(schema.tokens).where(_TOKENS.id == token_id)).one_or_none()
        return None if row is None else TokenRecord(_summary(row), row.salt, row.digest)

    def touch(self, token_id: str) -> None:
        """Note that the token was used now."""
        # Reading goes on where nothing can be written any more.
        with suppress(SQLAlchemyError, LutnasError), self._database.write() as connection:
            now = stamp(self._clock())
            connection.execute(update(schema.tokens).where(_TOKENS.id == token_id).values(last_used_at=now))

    def revoke(self, token_id: str) -> TokenSummary:
        """Revoke a token; again changes nothing (not_found)."""
        with self._database.write() as connection:
            connection.execute(
                update(schema.tokens)
                .where(_TOKENS.id == token_id, _TOKENS.revoked_at.is_(None))
                .values(revoked_at=stamp(self._clock()))
            )
            row = connection.execute(select(schema.tokens).where(_TOKENS.id == token_id)).one_or_none()
        if row is None:
            raise error_codes.refused(
                "not_found", f"no token has the id '{token_id}'; `lut-server token list` shows all"
            )
        return _summary(row)

    def list(self) -> tuple[TokenSummary, ...]:
        """All tokens, revoked or not."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.tokens).order_by(_TOKENS.created_at, _TOKENS.id))
            return tuple(_summary(row) for row in rows)


def token_values(record: TokenRecord) -> dict[str, Any]:
    """A token as a row."""
    return {**vars(record.summary), "salt": record.salt, "digest": record.digest}


def _summary(row: Row[Any]) -> TokenSummary:
    return TokenSummary(
        row.id, row.role, row.name, row.device, row.created_at, row.revoked_at, row.expires_at, row.last_used_at
    )
