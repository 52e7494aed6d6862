"""Uploaded ONNX files in the database."""

from __future__ import annotations

from sqlalchemy import func, select

from lut_server import error_codes
from lut_server.clock import stamp
from lut_server.store import schema
from lut_server.store.database import DatabaseStore, insert_missing

_MODELS = schema.models.c
MOST_BYTES_OF_TOKEN = 4 << 30


class ModelStore(DatabaseStore):
    """Uploaded ONNX files by their SHA-256."""

    def put(self, sha256: str, content: bytes, token: str | None = None) -> bool:
        """Store a file; False if it was there already (conflict: beyond the token's quota)."""
        values = {"sha256": sha256, "created_at": stamp(self._clock()), "token": token, "content": content}
        with self._database.write() as connection:
            is_new = connection.execute(insert_missing(connection, schema.models), values).rowcount > 0
            own = select(func.sum(func.length(_MODELS.content))).where(_MODELS.token == token)
            if is_new and token is not None and (connection.scalar(own) or 0) > MOST_BYTES_OF_TOKEN:
                problem = (
                    f"this token has uploaded {MOST_BYTES_OF_TOKEN >> 30} GiB of models; others need another token"
                )
                raise error_codes.refused("conflict", problem)
            return is_new

    def get(self, sha256: str) -> bytes:
        """The file (unknown_model)."""
        with self._database.read() as connection:
            content = connection.scalar(select(schema.models.c.content).where(schema.models.c.sha256 == sha256))
        if content is None:
            raise error_codes.refused("unknown_model", f"no model {sha256} was uploaded")
        return bytes(content)

    def put_network(self, graph: str, sha256: str) -> bool:
        """Let a stored file be that of a network; False if the network has a file, which stays."""
        key, now = schema.graph_hash(graph), stamp(self._clock())
        values = {"graph_hash": key, "graph": graph, "sha256": sha256, "created_at": now}
        with self._database.write() as connection:
            return connection.execute(insert_missing(connection, schema.own_networks), values).rowcount > 0

    def get_network(self, graph: str) -> bytes:
        """The file of a network of a user's own model (unknown_model)."""
        networks = schema.own_networks.c
        files = schema.own_networks.join(schema.models)
        query = select(_MODELS.content).select_from(files).where(networks.graph_hash == schema.graph_hash(graph))
        with self._database.read() as connection:
            content = connection.scalar(query)
        if content is None:
            problem = f"{graph[:300]} was not uploaded: `search space FILE.py:FUNCTION --device D` uploads networks"
            raise error_codes.refused("unknown_model", problem)
        return bytes(content)

    def has(self, sha256: str) -> bool:
        """Whether it is there."""
        with self._database.read() as connection:
            found = connection.scalar(select(schema.models.c.sha256).where(schema.models.c.sha256 == sha256))
        return found is not None
