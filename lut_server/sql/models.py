"""Uploaded ONNX files in the database."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from lut_server import refusals, schema
from lut_server.clock import Clock, stamp
from lut_server.database import Database


class SqlModels:
    """Implements `lut_server.store.ModelStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def put(self, sha256: str, content: bytes) -> bool:
        with self._database.write() as connection:
            if _is_there(connection, sha256):
                return False
            values = {"sha256": sha256, "created_at": stamp(self._clock()), "content": content}
            connection.execute(insert(schema.models).values(values))
            return True

    def get(self, sha256: str) -> bytes:
        with self._database.read() as connection:
            content = connection.scalar(select(schema.models.c.content).where(schema.models.c.sha256 == sha256))
        if content is None:
            raise refusals.refused("unknown_model", f"no model {sha256} was uploaded")
        return bytes(content)

    def has(self, sha256: str) -> bool:
        with self._database.read() as connection:
            return _is_there(connection, sha256)


def _is_there(connection: Connection, sha256: str) -> bool:
    return connection.scalar(select(schema.models.c.sha256).where(schema.models.c.sha256 == sha256)) is not None
