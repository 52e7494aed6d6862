"""Metrics in Prometheus' text format: requests, durations, refused tokens, store sizes."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from lut_server.store import schema
from lut_server.store.sql import Store
from shared.jobs import JOB_STATES

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
NO_ROUTE = "none"


class Metrics:
    """Metrics of one server process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self._requests = Counter("lutnas_requests", "Requests answered.", (*labels, "status"), registry=self.registry)
        self._seconds = Histogram(
            "lutnas_request_duration_seconds",
            "Time from a request's arrival to its last byte.",
            labels,
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._kept: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.refused_tokens = Counter(
            "lutnas_refused_tokens", "Requests whose token was refused.", registry=self.registry
        )
        self._devices = Gauge("lutnas_devices", "Registered devices.", registry=self.registry)
        self._tables = Gauge("lutnas_tables", "Latency tables.", registry=self.registry)
        self._jobs = Gauge("lutnas_jobs", "Jobs by state.", ("state",), registry=self.registry)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is its template: parameters would make a series each."""
        key = (method, route, status)
        found = self._kept.get(key)
        if found is None:
            series = self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)
            found = self._kept[key] = series
        found[0].inc()
        found[1].observe(seconds)

    def render(self, store: Store) -> bytes:
        """The text, with the store's sizes as they are now."""
        self._devices.set(store.database.count(schema.devices))
        self._tables.set(store.database.count(schema.latency_tables))
        states = sum(store.jobs.counts().values(), Counts())
        for state in JOB_STATES:
            self._jobs.labels(state).set(states[state])
        return generate_latest(self.registry)
