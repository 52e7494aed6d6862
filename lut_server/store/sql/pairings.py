"""Pairing codes in the database: one row a device, so that a new code ends the one before it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from lut_server.clock import stamp
from lut_server.store import schema
from lut_server.store.database import DatabaseStore, insert_missing
from lut_server.store.sql.tokens import token_values
from lut_server.store.values import Pairing, PairingRecord, TokenRecord

_PAIRINGS = schema.pairings.c
_KEPT = timedelta(days=1)
"""After its end: whoever comes late, or second, hears why."""


class PairingStore(DatabaseStore):
    """One-time codes of devices. They are cleared a day after their end, used or not."""

    def put(self, pairing: Pairing, digest: bytes) -> None:
        """Store a device's code in place of the one before it."""
        values = {**vars(pairing), "digest": digest}
        with self._database.write() as connection:
            self._clear(connection)
            if connection.execute(insert_missing(connection, schema.pairings), values).rowcount == 0:
                connection.execute(update(schema.pairings).where(_PAIRINGS.device == pairing.device).values(values))

    def find(self, device: str) -> PairingRecord | None:
        """The device's last code, used or not."""
        with self._database.read() as connection:
            row = connection.execute(select(schema.pairings).where(_PAIRINGS.device == device)).one_or_none()
        return None if row is None else PairingRecord(_pairing(row), row.digest)

    def redeem(self, device: str, digest: bytes, token: TokenRecord) -> bool:
        """Use the code up and store the token that is given for it; False where it is used, ended
        or another one.

        However many come at once with the same code, one of them is served.
        """
        unused = (_PAIRINGS.device == device, _PAIRINGS.digest == digest, _PAIRINGS.token.is_(None))
        with self._database.write() as connection:
            # A single statement looks and takes: the second of two finds it taken.
            taken = connection.execute(
                update(schema.pairings)
                .where(*unused, _PAIRINGS.expires_at > stamp(self._clock()))
                .values(token=token.summary.id)
            )
            if taken.rowcount == 0:
                return False
            connection.execute(insert(schema.tokens).values(token_values(token)))
        return True

    def end(self, device: str) -> bool:
        """End the device's code; False where there is no unused one."""
        with self._database.write() as connection:
            ended = connection.execute(
                delete(schema.pairings).where(_PAIRINGS.device == device, _PAIRINGS.token.is_(None))
            )
        return ended.rowcount > 0

    def list(self) -> tuple[Pairing, ...]:
        """All codes."""
        with self._database.write() as connection:
            self._clear(connection)
            rows = connection.execute(select(schema.pairings).order_by(_PAIRINGS.created_at, _PAIRINGS.device))
            return tuple(_pairing(row) for row in rows)

    def _clear(self, connection: Connection) -> None:
        connection.execute(delete(schema.pairings).where(_PAIRINGS.expires_at < stamp(self._clock() - _KEPT)))


def _pairing(row: Row[Any]) -> Pairing:
    return Pairing(row.device, row.created_at, row.expires_at, row.token_days, row.token)
