"""The store on SQLAlchemy, over SQLite or PostgreSQL: a module for each kind of thing, all over one
`Database`.

What holds for every method (`tests/server/test_store.py` checks it over both databases):

* Values go in and out as frozen dataclasses. No row, connection or session leaves the store.
* Each method is one transaction: all of it happens, or nothing.
* Any thread may call any method, and any number of servers may share one database.
* `get_x` raises NotFound with the code of the missing thing, `find_x` returns None.
* What was uploaded is never changed. The same identity with the same content is stored once. With
  other content it raises Conflict, and nothing is stored.
* Lists come in the order in which things were stored.
* The store's clock gives the moments, and `lut_server.clock.stamp` writes them.
"""

from lut_server.store.sql.store import Store, open_store

__all__ = ["Store", "open_store"]
