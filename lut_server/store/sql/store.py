"""The store as a whole, and how it is opened."""

from __future__ import annotations

from dataclasses import dataclass

from lut_server.clock import Clock, utc_now
from lut_server.store.database import Database
from lut_server.store.engines import BUSY_TIMEOUT_S
from lut_server.store.sql.archive import ArchiveStore
from lut_server.store.sql.devices import DeviceStore
from lut_server.store.sql.jobs import JobStore
from lut_server.store.sql.kernels import KernelStore
from lut_server.store.sql.models import ModelStore
from lut_server.store.sql.pairings import PairingStore
from lut_server.store.sql.runs import RunStore
from lut_server.store.sql.searches import SearchStore
from lut_server.store.sql.tables import TableStore
from lut_server.store.sql.tokens import TokenStore


@dataclass(frozen=True)
class Store:
    """Everything that the server keeps."""

    database: Database
    devices: DeviceStore
    runs: RunStore
    kernels: KernelStore
    tables: TableStore
    models: ModelStore
    jobs: JobStore
    searches: SearchStore
    tokens: TokenStore
    pairings: PairingStore
    archive: ArchiveStore

    def close(self) -> None:
        """Give up all connections."""
        self.database.close()


def open_store(url: str, clock: Clock = utc_now, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Store:
    """Open the database; the tables of a new one are made.

    Raises:
        InvalidValue: the URL is not one.
        OtherSchema: another lutnas made its tables.
        LutnasError: it cannot be opened.
    """
    database = Database(url, busy_timeout_s)
    return Store(
        database,
        DeviceStore(database, clock),
        RunStore(database, clock),
        KernelStore(database, clock),
        TableStore(database, clock),
        ModelStore(database, clock),
        JobStore(database, clock),
        SearchStore(database, clock),
        TokenStore(database, clock),
        PairingStore(database, clock),
        ArchiveStore(database),
    )
