"""The store as a whole, and how it is opened."""

from __future__ import annotations

from dataclasses import dataclass

from lut_server.clock import Clock, utc_now
from lut_server.store.database import Database
from lut_server.store.engines import BUSY_TIMEOUT_S
from lut_server.store.sql.archive import SqlArchive
from lut_server.store.sql.devices import SqlDevices
from lut_server.store.sql.jobs import SqlJobs
from lut_server.store.sql.kernels import SqlKernels
from lut_server.store.sql.models import SqlModels
from lut_server.store.sql.pairings import SqlPairings
from lut_server.store.sql.readiness import check_ready
from lut_server.store.sql.runs import SqlRuns
from lut_server.store.sql.searches import SqlSearches
from lut_server.store.sql.tables import SqlTables
from lut_server.store.sql.tokens import SqlTokens


@dataclass(frozen=True)
class SqlStore:
    """Implements `lut_server.store.store.Store`."""

    database: Database
    devices: SqlDevices
    runs: SqlRuns
    kernels: SqlKernels
    tables: SqlTables
    models: SqlModels
    jobs: SqlJobs
    searches: SqlSearches
    tokens: SqlTokens
    pairings: SqlPairings
    archive: SqlArchive

    def revision(self) -> str:
        """Schema revision of the store."""
        return self.database.revision()

    def check_ready(self) -> str:
        """Schema revision of a store that takes writes right now."""
        return check_ready(self.database)

    def close(self) -> None:
        """Give up all connections."""
        self.database.close()


def open_store(url: str, clock: Clock = utc_now, busy_timeout_s: float = BUSY_TIMEOUT_S) -> SqlStore:
    """Open the database and migrate it to this code's schema.

    Raises:
        InvalidValue: the URL is not one.
        SchemaTooNew: a newer lutnas migrated the database.
        LutnasError: it cannot be opened.
    """
    database = Database(url, busy_timeout_s)
    return SqlStore(
        database,
        SqlDevices(database, clock),
        SqlRuns(database, clock),
        SqlKernels(database, clock),
        SqlTables(database, clock),
        SqlModels(database, clock),
        SqlJobs(database, clock),
        SqlSearches(database, clock),
        SqlTokens(database, clock),
        SqlPairings(database, clock),
        SqlArchive(database),
    )
