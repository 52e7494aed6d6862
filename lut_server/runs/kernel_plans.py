"""What to measure so that a device's table can predict someone's own networks: one task for each kernel it lacks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lut_server.calibration.single_kernel_fit import fit_single_kernels
from lut_server.store.sql import Store
from lut_server.tables.table_lookup import get_table
from shared.errors import InvalidValue
from shared.graphs.kernels import companions
from shared.kernels.kernel import Kernel, parse_kernel
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import ANCHOR, Plan, kernel_tasks
from shared.tables.table import LatencyTable, read_table

MOST_KERNELS = 2000


@dataclass(frozen=True)
class KernelPlanRequest:
    """Someone's networks, each as the kernels that it executes.

    Attributes:
        space: of the table, or its first parts; "" takes the device's newest table.
        runtime: of the table; None takes any.
    """

    networks: tuple[tuple[str, ...], ...]
    space: str = ""
    runtime: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.kernels) <= MOST_KERNELS:
            raise InvalidValue("networks", f"{len(self.kernels)} kernels are not within 1 to {MOST_KERNELS}")
        for kernel in self.kernels:
            parse_kernel(kernel)

    @property
    def kernels(self) -> tuple[str, ...]:
        return tuple(sorted({kernel for network in self.networks for kernel in network}))


@dataclass(frozen=True)
class KernelPlanAnswer:
    """What is left to measure (null: nothing), what is known already, and what cannot be measured alone, and why."""

    plan: Plan | None
    known: tuple[str, ...]
    refused: dict[str, str]
    table: str


def plan_kernels(store: Store, device: str, request: KernelPlanRequest) -> KernelPlanAnswer:
    """Plan what the table lacks of the networks' kernels, with what comes along with them.

    A network whose kernels the table's own fit knows needs none; any other one needs each of its kernels by itself.

    Raises:
        NotFound: unknown_device; or no_table: kernels are measured for a table that there is.
    """
    summary = get_table(store, device, request.space, request.runtime)
    table = read_table(json.loads(store.tables.get_bytes(summary.hash)))
    measured = set(table.single_kernels.index) if table.single_kernels else set()
    foreign = {kernel for network in request.networks if not _known_together(table, network) for kernel in network}
    wanted, refused = _measurable(foreign - measured)
    missing = sorted(kernel for kernel in wanted if str(kernel) not in measured)
    plan = None
    if missing:
        anchor = () if str(ANCHOR) in measured else (ANCHOR,)
        tasks = kernel_tasks([*missing, *anchor], measure_reading=bool(anchor))
        plan = Plan(table.space, tasks, table.canary)
    known = tuple(one for one in request.kernels if one in measured or one not in foreign)
    return KernelPlanAnswer(plan, known, refused, summary.hash)


def is_kernel_plan(plan: Plan) -> bool:
    """Whether a plan measures kernels one by one, and so adds to a table rather than making one."""
    return bool(plan.tasks) and all(task.role == "kernel" for task in plan.tasks)


def _known_together(table: LatencyTable, kernels: tuple[str, ...]) -> bool:
    return table.kernels is not None and not table.kernels.unmeasured(dict.fromkeys(kernels, 1))


def _measurable(kernels: Iterable[str]) -> tuple[set[Kernel], dict[str, str]]:
    """The wanted kernels and what comes along with them, and the problem of each that has no graph."""
    wanted: set[Kernel] = set()
    refused = {}
    waiting = [parse_kernel(one) for one in kernels]
    while waiting:
        kernel = waiting.pop()
        if kernel in wanted:
            continue
        try:
            waiting += companions(kernel)
            wanted.add(kernel)
        except InvalidValue as error:
            refused[str(kernel)] = error.problem
    return wanted, refused


def add_single_kernels(store: Store, table: LatencyTable, run: Run, nominal_ms: float) -> LatencyTable:
    """The table with what `run` and the finished runs before it say of single kernels; the rest stays as it is."""
    measured: list[Measurement] = []
    runs = []
    for stored in store.runs.list(run.device):
        same = stored.run.runtime == run.runtime and stored.run.canary == run.canary
        if not same or not (stored.finished or stored.run.id == run.id):
            continue
        found = store.runs.measured_kernels(stored.run.id)
        if found:
            measured += found
            runs.append(stored.run.id)
    graphs = sorted({graph for one in measured for graph in (one.graph, one.minus) if graph is not None})
    counts = store.kernels.of_graphs(run.device, str(run.runtime), graphs)
    single = fit_single_kernels(measured, nominal_ms, counts, runs)
    return table if single is None else replace(table, single_kernels=single)
