"""Graphs from the server, kept on disk: each is sent once, and is there without the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.spool import Spool
from shared.atomic_files import read_bytes
from shared.errors import ServerAway
from shared.http.retry import retry

WITH_PRECISION = ("chain:", "parallel:", "network:")
"""Graphs that are built in the wanted precision."""


@dataclass
class GraphStore:
    """Reads graphs by their reference. Its methods raise ServerAway if a graph is nowhere.

    Attributes:
        client: None reads from the disk alone.
        begun: graphs to take from the disk unasked: a resumed run goes on with its bytes.
        precision: of the graphs. The canary and uploaded files have their own.
    """

    client: ServerClient | None
    spool: Spool
    batch: int
    sleep: Callable[[float], None] = time.sleep
    begun: Set[str] = frozenset()
    precision: str = "fp32"

    def read(self, spec: str) -> bytes:
        path = self.locate(spec)
        content = read_bytes(path)
        if content is None:
            raise ServerAway(f"{path} went away while it was in use; run the same command again")
        return content

    def locate(self, spec: str) -> Path:
        """File of a graph, on the disk now."""
        precision = self.precision if spec.startswith(WITH_PRECISION) else "fp32"
        kept = self.spool.find_graph(spec, self.batch, precision)
        if self.client is None:
            if kept is None:
                raise ServerAway(
                    f"{spec} is not in {self.spool.folder}, or not whole, and without the server it cannot be fetched"
                )
            return kept[1]
        if kept is not None and (spec in self.begun or spec.startswith("kernel:")):  # cut out here
            return kept[1]
        client, sha256, tries = self.client, None if kept is None else kept[0], 2 if kept else 4

        def save(file: BinaryIO) -> str | None:
            return client.save_graph(spec, self.batch, file, sha256, precision)

        try:
            path = retry(lambda: self.spool.keep_graph(spec, self.batch, save, precision), tries, self.sleep)
        except ServerAway:
            if kept is None:
                raise
            self.client = None
            return kept[1]
        if path is not None:
            return path
        if kept is None:
            raise ServerAway(f"{client.url} sent nothing for {spec}; try again")
        return kept[1]
