"""The tables of the database, as its migration makes them.

`token` is the id of the token that brought a thing, which its quotas are counted by.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"}
)


def graph_hash(graph: str) -> str:
    """The key of a graph's reference, which may be long."""
    return hashlib.sha256(graph.encode()).hexdigest()


devices = Table(
    "devices",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("probe", Text, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("last_seen_at", String(40), nullable=False),
    Column("last_asked_at", String(40)),
    Column("token", String(16), index=True),
)

latency_tables = Table(
    "latency_tables",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("device", ForeignKey("devices.name"), nullable=False),
    Column("space", String(200), nullable=False),
    Column("runtime", String(300), nullable=False),
    Column("canary_nominal_ms", Double, nullable=False),
    Column("held_out", Text),
    Column("created_at", String(40), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index(None, "device", "space"),
)

runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(80), nullable=False, unique=True),
    Column("device", ForeignKey("devices.name"), nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("table_hash", ForeignKey("latency_tables.hash")),
    Column("raw_dropped_at", String(40)),
    Index(None, "device"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run", ForeignKey("runs.id"), nullable=False),
    Column("id", String(80), nullable=False),
    Column("role", String(12), nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("content", Text, nullable=False),
    Index(None, "run", "id", unique=True),
)

kernel_counts = Table(
    "kernel_counts",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("device", ForeignKey("devices.name"), nullable=False),
    Column("runtime", String(300), nullable=False),
    Column("graph_hash", String(64), nullable=False),
    Column("graph", Text, nullable=False),
    Column("space", String(200)),
    Column("counts", Text, nullable=False),
    Column("created_at", String(40), nullable=False),
    Index(None, "device", "runtime", "graph_hash", unique=True),
    Index(None, "device", "space"),
)

canary_nominals = Table(
    "canary_nominals",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("runtime", String(300), primary_key=True),
    Column("canary", String(100), primary_key=True),
    Column("nominal_ms", Double, nullable=False),
    Column("run", ForeignKey("runs.id"), nullable=False),
    Column("created_at", String(40), nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("created_at", String(40), nullable=False),
    Column("token", String(16), index=True),
    Column("content", LargeBinary, nullable=False),
)

own_networks = Table(
    "own_networks",
    metadata,
    Column("graph_hash", String(64), primary_key=True),
    Column("graph", Text, nullable=False),
    Column("sha256", ForeignKey("models.sha256"), nullable=False),
    Column("created_at", String(40), nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("device", ForeignKey("devices.name"), nullable=False),
    Column("content", Text, nullable=False),
    Column("state", String(12), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", String(40)),
    Column("reason", Text),
    Column("verification", Text),
    Column("run", ForeignKey("runs.id")),
    Column("result", Text),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("token", String(16)),
    Index(None, "device", "state"),
    Index(None, "token", "state"),
)

searches = Table(
    "searches",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("search", String(64), nullable=False),
    Column("device", ForeignKey("devices.name"), nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", String(40), nullable=False),
    Index(None, "search"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("role", String(12), nullable=False),
    Column("name", String(200), nullable=False),
    Column("device", String(64)),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("revoked_at", String(40)),
    Column("expires_at", String(40)),
    Column("last_used_at", String(40)),
)

pairings = Table(
    "pairings",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("expires_at", String(40), nullable=False),
    Column("token_days", Double, nullable=False),
    Column("token", String(16)),
)

device_statuses = Table(
    "device_statuses",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("content", Text, nullable=False),
    Column("reported_at", String(40), nullable=False),
)
