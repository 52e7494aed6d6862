"""What a device lacks: tables that others have, and what is missing in its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lut_server.store.sql import Store
from lut_server.store.values import StoredRun, TableSummary
from lut_server.tables.table_facts import FactsReader, TableFacts
from shared.errors import WrongUse
from shared.runtime import Runtime, parse_runtime
from shared.spaces import parse_space
from shared.tables.table_source import IMPORTED_ENGINE

SHOWS_GRAPHS = "onnxruntime"
"""The engine that tells which kernels it executes; that of a browser does not."""


@dataclass(frozen=True)
class Gap:
    """What is missing of one space's table on one runtime.

    Attributes:
        table: hash of the table; None: there is none.
        run: the unfinished run that would make it.
        ops: op keys of the space without a measurement.
        networks: whole networks are missing, so that the error of the table is unknown.
        kernel_prices: kernel prices are missing, though the runtime shows its kernels.
        kernels: networks of the table whose kernels were not counted.
    """

    space: str
    runtime: str
    table: str | None
    run: str | None
    ops: int
    networks: bool
    kernel_prices: bool
    kernels: int
    says: str


class GapFinder:
    """Finds the gaps of devices, in a fleet whose tables are known."""

    def __init__(self, store: Store, facts: FactsReader, tables: Iterable[TableSummary]) -> None:
        self._store = store
        self._facts = facts
        self._owners: dict[str, set[str]] = {}
        for table in tables:
            if is_measured(table):
                self._owners.setdefault(table.space, set()).add(table.device)

    def find(self, device: str, tables: Sequence[TableSummary], newest_run: StoredRun | None) -> tuple[Gap, ...]:
        """The gaps of a device, by its own tables (the oldest first) and its newest run."""
        # Of several versions of the runtime, only the newest table is worth completing.
        newest = {(table.space, any_version(table.runtime)): table for table in tables if is_measured(table)}
        found = [self._of_table(table) for table in newest.values()]
        unfinished = newest_run if newest_run is not None and not newest_run.finished else None
        if unfinished is not None:
            found.append(self._of_run(unfinished))
        have = {space for space, _ in newest} | ({unfinished.run.space} if unfinished else set())
        found += [self._of_others(space) for space in sorted(self._owners.keys() - have)]
        return tuple(gap for gap in found if gap is not None)

    def _of_table(self, table: TableSummary) -> Gap | None:
        facts = self._facts.get(table.hash)
        ops = len(_op_keys(table.space) - {price.op_key for price in facts.prices})
        networks = facts.held_out is None
        kernel_prices = facts.kernels is None and facts.runtime.engine == SHOWS_GRAPHS
        kernels = self._uncounted(table, facts) if kernel_prices else 0
        uncounted = f" (the kernels of {kernels} networks are not counted)" if kernels else ""
        parts = [
            f"{ops} ops without a price" if ops else "",
            "no held-out error: how well it predicts networks is unknown" if networks else "",
            f"no kernel prices{uncounted}: bounds come from op prices and are wider" if kernel_prices else "",
        ]
        says = "; ".join(filter(None, parts))
        if not says:
            return None
        said = f"the table of {table.space} on {table.runtime} has {says}"
        return Gap(table.space, table.runtime, table.hash, None, ops, networks, kernel_prices, kernels, said)

    def _uncounted(self, table: TableSummary, facts: TableFacts) -> int:
        counted = self._store.kernels.of_space(table.device, table.runtime, table.space)
        return len({network.genotype for network in facts.networks} - counted.keys())

    def _of_run(self, stored: StoredRun) -> Gap:
        run, roles = stored.run, self._store.runs.count_roles(stored.run.id)
        if roles["kernel"]:  # of a user's own files: it makes no table
            says = f"run {run.id} of single kernels is not finished: it has {stored.measurements} measurements"
            return Gap(run.space, str(run.runtime), None, run.id, 0, False, False, 0, says)
        ops = max(len(_op_keys(run.space)) - roles["marginal"], 0)
        parts = [
            f"{ops} ops" if ops else "",
            "networks of the fit" if not roles["calibration"] else "",
            "held-out networks" if not roles["held_out"] else "",
        ]
        lacks = ", ".join(filter(None, parts)) or "its end"
        has = f"it has {stored.measurements} measurements and lacks {lacks}"
        says = f"run {run.id} of {run.space} is not finished: {has}"
        return Gap(run.space, str(run.runtime), None, run.id, ops, not roles["held_out"], False, 0, says)

    def _of_others(self, space: str) -> Gap:
        owners = sorted(self._owners[space])
        shown = ", ".join(owners[:3]) + (f" and {len(owners) - 3} more" if len(owners) > 3 else "")
        have = "has" if len(owners) == 1 else "have"
        said = f"no table of {space}, which {shown} {have}"
        return Gap(space, "", None, None, len(_op_keys(space)), True, False, 0, said)


def any_version(runtime: str) -> Runtime:
    """A runtime without its version, which the device decides about."""
    return replace(parse_runtime(runtime), version="any")


def is_measured(table: TableSummary) -> bool:
    """Whether a run made the table; others are imported."""
    return not table.runtime.startswith(f"{IMPORTED_ENGINE}-")


@lru_cache(maxsize=64)
def _op_keys(space: str) -> frozenset[str]:
    """Op keys of a space; none if this version does not know the space."""
    try:
        return frozenset(str(key) for key in parse_space(space).measured_ops)
    except WrongUse:
        return frozenset()
