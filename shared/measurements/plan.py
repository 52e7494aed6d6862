"""The plan of a profiling run: the tasks that the server gives to an agent."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.errors import InvalidValue
from shared.kernels.kernel import Kernel
from shared.measurements.graph_spec import (
    CanaryGraph,
    ChainGraph,
    KernelGraph,
    NetworkGraph,
    ParallelGraph,
    parse_graph_spec,
)
from shared.spaces import Genotype, Own, Space, parse_space
from shared.spaces.op_key import OpKey
from shared.wire import PLAN_SCHEMA, content_hash, require_schema

ROLES = ("marginal", "isolated", "calibration", "held_out", "verification", "kernel", "settle")
OP_ROLES = ("marginal", "isolated")
LONG_CHAIN, SHORT_CHAIN = 8, 2
MOST_NETWORKS = 2000
MOST_OWN, MOST_OWN_HELD_OUT = 60, 20
"""Networks of a user's own model that are timed whole, and those of them that no fit sees."""


@dataclass(frozen=True)
class Task:
    """A latency to measure: (time of `graph` - time of `minus`) / `divisor`.

    Attributes:
        subject: an op key, a genotype in its space's string form, or a kernel.
        role: "marginal" (an op), "isolated" (an op alone, for comparison), "calibration" (a network
            of the fit), "held_out" (never in a fit), "verification", "kernel" (of a runtime),
            "settle" (after the campaign, once more).
        minus: reference of the subtracted graph, or None.
        divisor: copies of the op in `graph` beyond those in `minus`.
    """

    subject: str
    role: str
    graph: str
    minus: str | None = None
    divisor: int = 1

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidValue("task.role", f"'{self.role}' is none of {', '.join(ROLES)}")
        if self.divisor < 1:
            raise InvalidValue("task.divisor", f"{self.divisor} is below 1")
        for reference in self.graphs:
            parse_graph_spec(reference)

    @property
    def graphs(self) -> tuple[str, ...]:
        """References of the graphs that the task needs."""
        return (self.graph,) if self.minus is None else (self.graph, self.minus)


@dataclass(frozen=True)
class Plan:
    """All tasks of a profiling run. `plan.id` is the hash of its content."""

    space: str
    tasks: tuple[Task, ...]
    canary: str = str(CanaryGraph())
    seed: int = 0
    schema: int = PLAN_SCHEMA

    def __post_init__(self) -> None:
        require_schema("the plan", self.schema, PLAN_SCHEMA)
        parse_space(self.space)
        parse_graph_spec(self.canary)

    @property
    def id(self) -> str:
        """Hash of the content: the same tasks always have the same id."""
        return content_hash(self)

    def graphs(self) -> tuple[str, ...]:
        """Every graph reference of the plan once, the canary first."""
        return tuple(dict.fromkeys((self.canary, *(graph for task in self.tasks for graph in task.graphs))))


def make_plan(space: Space, calibration: int = 40, held_out: int = 40, seed: int = 0, isolated: bool = False) -> Plan:
    """The plan of the run that makes the table of a space. That of a user's own model has networks alone.

    Args:
        calibration: number of networks measured whole for the fit, the fastest network among them.
        held_out: number of networks measured whole and never used in a fit.
        seed: of the sampled networks. No held-out network is a calibration network.
        isolated: time each op alone, too.

    Raises:
        InvalidValue: a count outside its domain.
    """
    for name, count in (("calibration", calibration), ("held_out", held_out)):
        if not 1 <= count <= MOST_NETWORKS:
            raise InvalidValue(name, f"{count} networks are not within 1 to {MOST_NETWORKS}")
    if isinstance(space, Own):
        most = min(space.networks, MOST_OWN)
        held_out = min(held_out, MOST_OWN_HELD_OUT, max(most // 3, 1))
        calibration = min(calibration, most - held_out)
    networks = _distinct_networks(space, calibration + held_out, random.Random(seed))
    tasks = [_marginal(key) for key in space.measured_ops]
    if isolated:
        tasks += [Task(str(key), "isolated", str(_graph_kind(key)(1, key))) for key in space.measured_ops]
    for index, genotype in enumerate(networks):
        role = "calibration" if index < calibration else "held_out"
        tasks.append(Task(space.format(genotype), role, str(NetworkGraph(space, genotype))))
    return Plan(str(space), tuple(tasks), seed=seed)


def _graph_kind(key: OpKey) -> type[ChainGraph] | type[ParallelGraph]:
    """An op that changes the shape cannot feed itself: its copies are parallel."""
    return ChainGraph if key.keeps_shape else ParallelGraph


def _marginal(key: OpKey) -> Task:
    graph = _graph_kind(key)
    long, short = str(graph(LONG_CHAIN, key)), str(graph(SHORT_CHAIN, key))
    return Task(str(key), "marginal", long, short, divisor=LONG_CHAIN - SHORT_CHAIN)


def _distinct_networks(space: Space, count: int, rng: random.Random) -> list[Genotype]:
    """The space's first networks, then sampled networks. Networks that compute the same count once."""
    networks = dict.fromkeys(space.first_measured)
    for _ in range(100 * count):
        if len(networks) >= count:
            return list(networks)[:count]
        networks.setdefault(space.canonical(space.sample(rng)))
    raise InvalidValue("calibration", f"{space.name} has fewer than {count} distinct networks")


LONG_WORK = 160_000_000
"""Multiply-adds of the long graph: a round of more would take seconds."""
ELEMENT_WORK = 10
"""An element read or written, in multiply-adds."""
COLD_WEIGHTS = 500_000
"""Weights of the long graph, where work allows: a network's are too many for the nearest caches, and so are these."""
MOST_COPIES = 64
MOST_REPEATED_WEIGHTS = 16_000_000
"""Every copy has weights of its own: above, one copy has to do."""


def kernel_task(kernel: Kernel, slow: bool = False) -> Task:
    """The task that measures a kernel.

    Args:
        kernel: as a runtime executes it.
        slow: it takes so long that a call's cost does not matter beside it: one copy, and nothing is subtracted.
    """
    subject = str(kernel)
    long, short = (1, 0) if slow else count_copies(kernel)
    if not short:
        return Task(subject, "kernel", str(KernelGraph(1, kernel)))
    return Task(subject, "kernel", str(KernelGraph(long, kernel)), str(KernelGraph(short, kernel)), long - short)


def count_copies(kernel: Kernel) -> tuple[int, int]:
    """Copies of the long graph and of the short one; 0 for none."""
    weights = kernel.weights()
    if weights > MOST_REPEATED_WEIGHTS:
        return 1, 0
    affordable = LONG_WORK // (kernel.multiply_adds() + ELEMENT_WORK * kernel.elements() + 1)
    wanted = max(min(COLD_WEIGHTS // weights, MOST_COPIES), LONG_CHAIN) if weights else LONG_CHAIN
    long = max(min(affordable, wanted), 2)
    return long, max(long // (LONG_CHAIN if long > LONG_CHAIN else LONG_CHAIN // SHORT_CHAIN), 1)
