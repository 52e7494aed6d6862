"""The store on SQLAlchemy: one module per kind of thing, all over one `Database`."""

from lut_server.store.sql.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
