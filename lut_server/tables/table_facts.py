"""What pages show of a table: all but its covariances, which are most of its bytes and which no page shows."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from lut_server.store.sql.tables import TableStore
from shared.runtime import Runtime
from shared.tables.kernel_prices import KernelPrice
from shared.tables.prediction import BaselineError, HeldOutError
from shared.tables.table import NetworkCheck, OpPrice
from shared.tables.table_source import TableSource
from shared.wire import from_wire

_REMEMBERED = 128
# A table is canonical JSON: in a text these quotation marks would be escaped.
_MATRICES = (b'"covariance":[[', b'"known":[[')


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


class FactsReader:
    """Reads facts, from any thread, and remembers those of the tables shown last: a table never changes."""

    def __init__(self, tables: TableStore) -> None:
        self._tables = tables
        self._known: OrderedDict[str, TableFacts] = OrderedDict()
        self._lock = Lock()

    def get(self, table_hash: str) -> TableFacts:
        """The facts of a table.

        Raises:
            NotFound: no_table.
        """
        with self._lock:
            if table_hash in self._known:
                self._known.move_to_end(table_hash)
                return self._known[table_hash]
        facts = read_facts(self._tables.get_bytes(table_hash))
        with self._lock:
            self._known[table_hash] = facts
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return facts


def read_facts(content: bytes) -> TableFacts:
    """The facts of a table as it is stored."""
    for start in _MATRICES:
        content = _without(content, start)
    return from_wire(TableFacts, json.loads(content), "table")


def _without(content: bytes, start: bytes) -> bytes:
    begin = content.find(start)
    if begin < 0:
        return content
    end = content.index(b"]]", begin)
    return content[: begin + len(start) - 2] + b"[]" + content[end + 2 :]
