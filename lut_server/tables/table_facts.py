"""What pages show of a table: all but its covariances, which are most of its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import msgspec

from lut_server.store.sql.tables import TableStore
from shared.runtime import Runtime
from shared.tables.held_out_error import BaselineError, HeldOutError
from shared.tables.kernel_prices import KernelPrice
from shared.tables.table import NetworkCheck, OpPrice, SettleCheck
from shared.tables.table_source import TableSource


@dataclass(frozen=True)
class KernelFacts:
    """Kernel prices without their covariance."""

    base_ms: float
    prices: tuple[KernelPrice, ...]
    held_out: HeldOutError | None = None


@dataclass(frozen=True)
class TableFacts:
    """A table without its covariance; fields as in `shared.tables.table.LatencyTable`."""

    device: str
    runtime: Runtime
    space: str
    canary: str
    canary_nominal_ms: float
    agent_version: str
    base_ms: float
    prices: tuple[OpPrice, ...]
    held_out: HeldOutError | None
    networks: tuple[NetworkCheck, ...]
    runs: tuple[str, ...]
    kernels: KernelFacts | None = None
    baselines: tuple[BaselineError, ...] | None = None
    source: TableSource | None = None
    settled: SettleCheck | None = None


class FactsReader:
    """Reads facts from any thread, and keeps those of the tables shown last."""

    def __init__(self, tables: TableStore) -> None:
        self._kept = lru_cache(maxsize=128)(lambda table_hash: read_facts(tables.get_bytes(table_hash)))

    def get(self, table_hash: str) -> TableFacts:
        """The facts of a table.

        Raises:
            NotFound: no_table.
        """
        return self._kept(table_hash)


def read_facts(content: bytes) -> TableFacts:
    """The facts of a table as it is stored."""
    return msgspec.json.decode(content, type=TableFacts)
