"""What a run must be before it is stored, and how it becomes a table."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache

from lut_server.kernel_plans import is_kernel_plan
from lut_server.single_kernels import add_single_kernels
from lut_server.store import Store, TableSummary
from lut_server.table_builder import build_table, canary_nominal_ms
from lut_server.table_lookup import get_table
from shared.errors import Conflict, InvalidValue
from shared.graph_spec import CanaryGraph, KernelGraph, parse_graph_spec
from shared.measurement import Measurement, Run
from shared.op_key import OpKey, parse_op_key
from shared.plan import OP_ROLES, Plan
from shared.spaces import Space, parse_space
from shared.table import LatencyTable, read_table


def check_run(run: Run) -> None:
    """Raise InvalidValue or UnknownName unless the run speaks of a space, a canary and a time that exist."""
    parse_space(run.space)
    if not isinstance(parse_graph_spec(run.canary), CanaryGraph):
        raise InvalidValue("run.canary", f"'{run.canary[:80]}' is not a canary")
    try:
        datetime.fromisoformat(run.started_at)
    except ValueError as error:
        raise InvalidValue("run.started_at", f"'{run.started_at[:80]}' is not an ISO 8601 time") from error


def check_measurement(run: Run, measurement: Measurement) -> None:
    """Raise InvalidValue or UnknownName unless the measurement's subject belongs to the run's space."""
    space = parse_space(run.space)
    for reference in (measurement.graph, measurement.minus):
        if reference is not None:
            parse_graph_spec(reference)
    if measurement.role == "kernel":
        graph = parse_graph_spec(measurement.graph)
        if not isinstance(graph, KernelGraph) or str(graph.kernel) != measurement.subject:
            raise InvalidValue("measurement.subject", f"{measurement.subject} is not the kernel of {measurement.graph}")
    elif measurement.role in OP_ROLES:
        if parse_op_key(measurement.subject) not in _op_keys(space):
            raise InvalidValue("measurement.subject", f"{measurement.subject} is no op key of {space}")
    elif not space.is_connected(space.parse(measurement.subject)):
        raise InvalidValue("measurement.subject", f"{measurement.subject} does not connect input and output")


def finish_run(store: Store, run: Run, plan: Plan) -> TableSummary:
    """Calibrate a run and store its table; a finished run keeps the table it has.

    Raises:
        InvalidValue: the plan is not the run's, or tasks of it have no measurement.
        Conflict: never but when runs of one device finish at the same moment again and again.
    """
    try:
        return _finish_once(store, run, plan)
    except Conflict:
        return _finish_once(
            store, run, plan
        )  # another run set the canary's nominal time meanwhile: calibrate with that


def _finish_once(store: Store, run: Run, plan: Plan) -> TableSummary:
    measurements = store.runs.measurements(run.id)
    nominal_ms = store.runs.find_canary_nominal(run.device, str(run.runtime), run.canary)
    if nominal_ms is None and measurements:
        nominal_ms = canary_nominal_ms(measurements)
    if is_kernel_plan(plan):
        return store.runs.finish(run.id, add_single_kernels(store, _table_of(store, run), run, nominal_ms or 1.0))
    kernel_counts = store.kernels.of_graphs(run.device, str(run.runtime), plan.graphs())
    table = build_table(run, plan, measurements, nominal_ms or 1.0, kernel_counts)
    return store.runs.finish(run.id, add_single_kernels(store, table, run, nominal_ms or 1.0))


def _table_of(store: Store, run: Run) -> LatencyTable:
    summary = get_table(store, run.device, run.space, str(run.runtime))
    return read_table(json.loads(store.tables.get_bytes(summary.hash)))


@lru_cache(maxsize=64)
def _op_keys(space: Space) -> frozenset[OpKey]:
    return frozenset(space.op_keys())
