"""Whether a table still holds: some of its networks, timed again beside the canary."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from statistics import fmean, stdev

from profiler_agent.ort.sessions import find_version
from profiler_agent.profile.settle import ROUNDS, choose_evenly
from profiler_agent.profile.verify_job import measure_models
from profiler_agent.server.graph_store import GraphStore
from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.campaign import CanaryWatch
from profiler_agent.timing.stopping import NETWORK_TIMES, PRESETS, Preset
from shared.device_status import TableCheck
from shared.errors import WrongUse
from shared.measurements.graph_spec import NetworkGraph
from shared.measurements.plan import Task
from shared.tables.table import LatencyTable
from shared.tables.table_source import not_verifiable


def check_table(
    client: ServerClient,
    spool: Spool,
    table: LatencyTable,
    check: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
    preset: Preset = PRESETS["quick"],
) -> TableCheck:
    """Time networks of a table from its fastest to its slowest, and compare.

    Args:
        check: called between rounds; raises to stop.
        preset: how long at most. A table's own settle check takes `ROUNDS`; so does this, if it may.

    Raises:
        WrongUse: the table was imported, or has no measured networks.
        NotFound: the server does not have a graph any more.
    """
    if table.source is not None:
        raise WrongUse(not_verifiable(table.device, table.source))
    networks = choose_evenly(sorted(table.networks, key=lambda network: network.measured_ms))
    if not networks:
        raise WrongUse(f"table {table.hash[:12]} has no measured networks to check: profile {table.device} anew")
    space, runtime = table.parsed_space, replace(table.runtime, version=find_version())
    store = GraphStore(client, spool, runtime.batch, sleep, precision=runtime.precision)
    graphs = [str(NetworkGraph(space, space.parse(network.genotype))) for network in networks]
    tasks = [Task(network.genotype, "verification", graph) for network, graph in zip(networks, graphs, strict=True)]
    models, canary = [(task, store.read(task.graph)) for task in tasks], store.read(table.canary)
    watch = CanaryWatch(spool.find_usual_canary(runtime, table.canary))
    preset = replace(preset, min_rounds=min(ROUNDS, NETWORK_TIMES * preset.max_rounds))
    with spool.measuring_lock(wait=True):
        measured = measure_models(
            str(uuid.uuid4()), models, canary, runtime, preset, watch, check, sleep, slow_alone=False
        )
    shifts = [
        math.log(table.canary_nominal_ms * now.estimate().ratio / network.measured_ms)
        for network, now in zip(networks, measured, strict=True)
    ]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return TableCheck(table.hash, at, len(shifts), fmean(shifts), stdev(shifts))
