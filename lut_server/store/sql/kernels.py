"""Kernel counts in the database: by device, runtime and graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, select, update

from lut_server.clock import stamp
from lut_server.store import schema
from lut_server.store.database import DatabaseStore, insert_missing
from lut_server.store.sql.devices import require_device
from lut_server.store.values import Stored
from shared.measurements.graph_spec import NetworkGraph, parse_graph_spec

Counts = Mapping[str, Mapping[str, int]]
_KERNELS = schema.kernel_counts.c
_MOST_AT_ONCE = 500


class KernelStore(DatabaseStore):
    """Kernel counts of graphs, by device and runtime. The newest counts of a graph hold."""

    def put(self, device: str, runtime: str, counts: Counts) -> Stored:
        """Store counts by graph reference (unknown_device)."""
        now = stamp(self._clock())
        rows = [
            {
                "device": device,
                "runtime": runtime,
                "graph_hash": schema.graph_hash(graph),
                "graph": graph,
                "space": _space(graph),
                "counts": json.dumps(dict(kernels), sort_keys=True, separators=(",", ":")),
                "created_at": now,
            }
            for graph, kernels in counts.items()
        ]
        rows.sort(key=lambda row: str(row["graph_hash"]))  # writers that lock in one order never wait in a circle
        with self._database.write() as connection:
            require_device(connection, device)
            stored = connection.execute(insert_missing(connection, schema.kernel_counts), rows).rowcount if rows else 0
            if stored < len(rows):
                outdated = update(schema.kernel_counts).where(
                    _KERNELS.device == device,
                    _KERNELS.runtime == runtime,
                    _KERNELS.graph_hash == bindparam("of_graph"),
                    _KERNELS.counts != bindparam("newest"),
                )
                renewed = outdated.values(counts=bindparam("newest"), created_at=now)
                newest = [{"of_graph": row["graph_hash"], "newest": row["counts"]} for row in rows]
                stored += connection.execute(renewed.execution_options(preserve_rowcount=True), newest).rowcount
            return Stored(stored, len(rows) - stored)

    def of_graphs(self, device: str, runtime: str, graphs: Sequence[str]) -> dict[str, dict[str, int]]:
        """Counts by graph reference, of those graphs that are known."""
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for start in range(0, len(graphs), _MOST_AT_ONCE):
                digests = [schema.graph_hash(graph) for graph in graphs[start : start + _MOST_AT_ONCE]]
                query = select(_KERNELS.graph, _KERNELS.counts).where(
                    _KERNELS.device == device, _KERNELS.runtime == runtime, _KERNELS.graph_hash.in_(digests)
                )
                found.update({row.graph: json.loads(row.counts) for row in connection.execute(query)})
        return found

    def of_space(self, device: str, runtime: str, space: str) -> dict[str, dict[str, int]]:
        """Counts of the known networks of a space, by genotype."""
        query = select(_KERNELS.graph, _KERNELS.counts).where(
            _KERNELS.device == device, _KERNELS.runtime == runtime, _KERNELS.space == space
        )
        begins = len(f"network:{space}:")
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_KERNELS.number)).all()
        return {row.graph[begins:]: json.loads(row.counts) for row in rows}


def _space(graph: str) -> str | None:
    spec = parse_graph_spec(graph)
    return str(spec.space) if isinstance(spec, NetworkGraph) else None
