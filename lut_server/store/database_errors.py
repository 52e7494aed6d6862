"""Which database errors mean that it cannot serve right now, and what to tell the client."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

RETRY_AFTER_S = 2
_CAUSES = (
    (("disk is full", "disk full", "no space left"), "the disk of the database is full; nothing can be stored"),
    (("is locked", "lock timeout", "table is locked"), "another writer holds the database; try again"),
    (("deadlock", "could not serialize"), "two writers met; try again"),
    (("readonly database", "read-only transaction"), "the database can only be read"),
    (("no such table", "no such column"), "the database has another schema than this server; restart the server"),
)
_PERMANENT = ("syntax error",)


def describe_outage(error: SQLAlchemyError) -> str | None:
    """A line about the database's present state; None for a fault of this program."""
    if isinstance(error, PoolTimeout):
        return "every connection to the database is in use; try again"
    if not isinstance(error, DBAPIError):
        return None
    said = " ".join(str(error.orig).split()).lower()
    for words, meaning in _CAUSES:
        if any(word in said for word in words):
            return meaning
    if error.connection_invalidated or (isinstance(error, OperationalError) and not any(w in said for w in _PERMANENT)):
        return "the database does not answer; try again"
    return None
