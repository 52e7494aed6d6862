"""What a run must be before it is stored, and how it becomes a table."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from statistics import fmean

from lut_server.calibration.table_builder import build_table, canary_nominal_ms
from lut_server.runs.kernel_plans import add_single_kernels, is_kernel_plan
from lut_server.store.sql import Store
from lut_server.store.values import TableSummary
from lut_server.tables.table_lookup import get_table
from shared.errors import Conflict, InvalidValue
from shared.measurements.graph_spec import CanaryGraph, KernelGraph, parse_graph_spec
from shared.measurements.measurement import Run
from shared.measurements.plan import OP_ROLES, Plan
from shared.spaces import Space, parse_space
from shared.spaces.op_key import OpKey, parse_op_key
from shared.tables.table import LatencyTable

MOST_COMPARED, FEWEST_COMPARED = 8, 4
"""Earlier tables, and networks that a table shares with one."""


def check_run(run: Run) -> None:
    """Raise InvalidValue or UnknownName unless the run's space, canary and time exist."""
    parse_space(run.space)
    if not isinstance(parse_graph_spec(run.canary), CanaryGraph):
        raise InvalidValue("run.canary", f"'{run.canary[:80]}' is not a canary")
    try:
        datetime.fromisoformat(run.started_at)
    except ValueError as error:
        raise InvalidValue("run.started_at", f"'{run.started_at[:80]}' is not an ISO 8601 time") from error


@lru_cache(maxsize=16_384)
def check_subject(space_name: str, role: str, subject: str, graph: str, minus: str | None) -> None:
    """Raise InvalidValue or UnknownName unless a measurement's subject belongs to the run's space.

    Runs of one plan have the same subjects again and again: what was found good is remembered.
    """
    space = parse_space(space_name)
    for reference in (graph, minus):
        if reference is not None:
            parse_graph_spec(reference)
    if role == "kernel":
        spec = parse_graph_spec(graph)
        if not isinstance(spec, KernelGraph) or str(spec.kernel) != subject:
            raise InvalidValue("measurement.subject", f"{subject} is not the kernel of {graph}")
    elif role in OP_ROLES:
        if parse_op_key(subject) not in _op_keys(space):
            raise InvalidValue("measurement.subject", f"{subject} is no op key of {space}")
    elif not space.is_connected(space.parse(subject)):
        raise InvalidValue("measurement.subject", f"{subject} does not connect input and output")


def finish_run(store: Store, run: Run, plan: Plan, chosen: bool = False) -> TableSummary:
    """Calibrate a run and store its table; a finished run keeps the table it has.

    Raises:
        InvalidValue: the plan is not the run's, or tasks of it have no measurement.
        Conflict: never but when runs of one device finish at the same moment again and again.
    """
    try:
        return _finish_once(store, run, plan, chosen)
    except Conflict:
        return _finish_once(
            store, run, plan, chosen
        )  # another run set the canary's nominal time meanwhile: calibrate with that


def _finish_once(store: Store, run: Run, plan: Plan, chosen: bool) -> TableSummary:
    measurements = store.runs.measurements(run.id)
    nominal_ms = store.runs.find_canary_nominal(run.device, str(run.runtime.of_canary), run.canary)
    if nominal_ms is None and measurements:
        nominal_ms = canary_nominal_ms(measurements)
    if is_kernel_plan(plan):
        table = store.tables.get(get_table(store, run.device, run.space, str(run.runtime)).hash)
        return store.runs.finish(run.id, add_single_kernels(store, table, run, nominal_ms or 1.0))
    graphs = [*dict.fromkeys([*plan.graphs(), *(measurement.graph for measurement in measurements)])]
    kernel_counts = store.kernels.of_graphs(run.device, str(run.runtime), graphs)
    table = build_table(run, plan, measurements, nominal_ms or 1.0, kernel_counts, chosen)
    if table.settled is not None:
        table = replace(table, settled=replace(table.settled, beside_quietest=_beside_quietest(store, table)))
    return store.runs.finish(run.id, add_single_kernels(store, table, run, nominal_ms or 1.0))


def _beside_quietest(store: Store, table: LatencyTable) -> float | None:
    """Mean logarithm of the networks' times over those of the quietest of the newest earlier tables."""
    own = {network.genotype: network.measured_ms for network in table.networks}
    found = []
    place = (table.space, str(table.runtime))
    alike = [each for each in store.tables.list(table.device) if (each.space, each.runtime) == place]
    for summary in alike[-MOST_COMPARED:]:
        earlier = store.tables.get(summary.hash).networks
        shared = [network for network in earlier if network.genotype in own]
        if len(shared) >= FEWEST_COMPARED:
            found.append(fmean(math.log(own[each.genotype] / each.measured_ms) for each in shared))
    return max(found, default=None)


@lru_cache(maxsize=64)
def _op_keys(space: Space) -> frozenset[OpKey]:
    return frozenset(space.op_keys())
