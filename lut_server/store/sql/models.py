"""Uploaded ONNX files in the database."""

from __future__ import annotations

from sqlalchemy import select

from lut_server import error_codes
from lut_server.clock import Clock, stamp
from lut_server.store import schema
from lut_server.store.database import Database, insert_missing


class ModelStore:
    """Uploaded ONNX files by their SHA-256."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def put(self, sha256: str, content: bytes) -> bool:
        """Store a file; False if it was there already."""
        values = {"sha256": sha256, "created_at": stamp(self._clock()), "content": content}
        with self._database.write() as connection:
            return insert_missing(connection, schema.models, values) > 0

    def get(self, sha256: str) -> bytes:
        """The file (unknown_model)."""
        with self._database.read() as connection:
            content = connection.scalar(select(schema.models.c.content).where(schema.models.c.sha256 == sha256))
        if content is None:
            raise error_codes.refused("unknown_model", f"no model {sha256} was uploaded")
        return bytes(content)

    def has(self, sha256: str) -> bool:
        """Whether it is there."""
        with self._database.read() as connection:
            found = connection.scalar(select(schema.models.c.sha256).where(schema.models.c.sha256 == sha256))
        return found is not None
