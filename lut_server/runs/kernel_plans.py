"""What a device's table lacks to predict someone's own networks: kernels that are to be measured by themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lut_server.calibration.single_kernel_fit import fit_single_kernels
from lut_server.store.sql import Store
from lut_server.tables.table_lookup import get_table
from shared.errors import InvalidValue
from shared.kernels.kernel import parse_kernel
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import Plan
from shared.tables.table import LatencyTable

MOST_KERNELS = 10_000


@dataclass(frozen=True)
class MissingKernelsRequest:
    """Someone's networks, each as the kernels that it executes.

    Attributes:
        space: of the table, or its first parts; "" takes the device's newest table.
        runtime: of the table; None takes any.
    """

    networks: tuple[tuple[str, ...], ...]
    space: str = ""
    runtime: str | None = None

    def __post_init__(self) -> None:
        if len(self.networks) > MOST_KERNELS:
            raise InvalidValue("networks", f"{len(self.networks)} are more than {MOST_KERNELS}")
        if not 1 <= len(kernels := self.kernels) <= MOST_KERNELS:
            raise InvalidValue("networks", f"{len(kernels)} kernels are not within 1 to {MOST_KERNELS}")
        for kernel in kernels:
            parse_kernel(kernel)

    @property
    def kernels(self) -> tuple[str, ...]:
        return tuple(sorted({kernel for network in self.networks for kernel in network}))


@dataclass(frozen=True)
class MissingKernelsAnswer:
    """Kernels that are to be measured, those that are known already, and the table that the plan is to be for."""

    missing: tuple[str, ...]
    known: tuple[str, ...]
    table: str
    space: str
    canary: str


def find_missing_kernels(store: Store, device: str, request: MissingKernelsRequest) -> MissingKernelsAnswer:
    """What the table lacks of the networks' kernels.

    A network whose kernels the table's own fit knows needs none; any other one needs each of its kernels by itself.

    Raises:
        NotFound: unknown_device; or no_table: kernels are measured for a table that there is.
    """
    summary = get_table(store, device, request.space, request.runtime)
    table = store.tables.get(summary.hash)
    measured = set(table.single_kernels.index) if table.single_kernels else set()
    foreign = {kernel for network in request.networks if not _known_together(table, network) for kernel in network}
    missing = foreign - measured
    known = tuple(kernel for kernel in request.kernels if kernel not in missing)
    return MissingKernelsAnswer(tuple(sorted(missing)), known, summary.hash, table.space, table.canary)


def is_kernel_plan(plan: Plan) -> bool:
    """Whether a plan measures kernels one by one, and so adds to a table rather than making one."""
    return bool(plan.tasks) and all(task.role == "kernel" for task in plan.tasks)


def _known_together(table: LatencyTable, kernels: tuple[str, ...]) -> bool:
    return table.kernels is not None and not table.kernels.unmeasured(dict.fromkeys(kernels, 1))


def add_single_kernels(store: Store, table: LatencyTable, run: Run, nominal_ms: float) -> LatencyTable:
    """The table with what `run` and the finished runs before it say of single kernels; the rest stays as it is."""
    measured: list[Measurement] = []
    runs = []
    for stored in store.runs.list(run.device):
        same = stored.run.runtime == run.runtime and stored.run.canary == run.canary
        if not same or not (stored.finished or stored.run.id == run.id):
            continue
        found = store.runs.measurements(stored.run.id, "kernel")
        if found:
            measured += found
            runs.append(stored.run.id)
    graphs = sorted({graph for one in measured for graph in (one.graph, one.minus) if graph is not None})
    counts = store.kernels.of_graphs(run.device, str(run.runtime), graphs)
    single = fit_single_kernels(measured, nominal_ms, counts, runs)
    return table if single is None else replace(table, single_kernels=single)
