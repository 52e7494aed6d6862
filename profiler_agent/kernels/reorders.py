"""Layout reorders that stand in an op's chain and not in a network: they do not cancel in long minus short.

ONNX Runtime's fast convolutions want their channels in blocks, and it inserts reorders where layouts meet. A reorder
at the ends of a chain is in both chains and cancels. One at each copy is in the price. Some ops need it there, and
networks have it too (channels that are no multiple of a block, a channel shuffle). With others it is the graph's doing:
a chain of residual blocks that begins in plain layout keeps its additions there, which no network does. Which is which,
the optimised graphs of the plan's own networks tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.measurements.graph_spec import ChainGraph, NetworkGraph, ParallelGraph, parse_graph_spec
from shared.measurements.plan import Task

KernelCounts = Mapping[str, Mapping[str, int]]
REORDERS = ("ReorderInput", "ReorderOutput", "Transpose")
EXPECTED_SHARE = 0.5
"""Of an op's reorders that networks with the op have at most: below it, most of the price's are not theirs."""


@dataclass(frozen=True)
class _Network:
    op_counts: Mapping[str, int]
    kernels: Mapping[str, int]


def odd_reorders(tasks: Sequence[Task], kernels: KernelCounts) -> dict[str, str]:
    """What is odd about tasks, in words, by their graph.

    Args:
        tasks: of a plan; its networks are what the ops are held against.
        kernels: of optimised graphs, by reference. Tasks whose kernels are not known are passed over.
    """
    networks = [
        _Network(_op_counts(parsed), kernels[task.graph])
        for task in tasks
        if task.graph in kernels and isinstance(parsed := parse_graph_spec(task.graph), NetworkGraph)
    ]
    found = {}
    for task in tasks:
        if task.minus is not None and task.graph in kernels and task.minus in kernels:
            reason = _oddity(task, task.minus, kernels, networks)
            if reason:
                found[task.graph] = reason
    return found


def _oddity(task: Task, minus: str, kernels: KernelCounts, networks: Iterable[_Network]) -> str:
    extra = {
        kernel: count - kernels[minus].get(kernel, 0)
        for kernel, count in kernels[task.graph].items()
        if kernel.split("/")[0].rpartition(".")[2] in REORDERS
    }
    odd = {}
    for kernel, count in extra.items():
        share = _share_in_networks(task.subject, kernel, count / task.divisor, networks) if count > 0 else None
        if share is not None and share < EXPECTED_SHARE:
            odd[kernel] = share
    if not odd:
        return ""
    long, short = _copies(task.graph), _copies(minus)
    more = sum(extra[kernel] for kernel in odd)
    where = "inside the chain" if task.graph.startswith("chain:") else "in each branch"
    return (
        f"a layout reorder {where}: {more} more in {long} copies than in {short}, of which networks with this op have"
        f" at most {100 * max(odd.values()):.0f} %"
    )


def _share_in_networks(op_key: str, kernel: str, per_copy: float, networks: Iterable[_Network]) -> float | None:
    """Which share of the reorders that the op's copies would bring networks have, at most; None if none has the op."""
    expected = found = 0.0
    for network in networks:
        wanted = network.op_counts.get(op_key, 0) * per_copy
        expected += wanted
        found += min(wanted, network.kernels.get(kernel, 0))
    return found / expected if expected else None


def _op_counts(network: NetworkGraph) -> dict[str, int]:
    return {str(key): count for key, count in network.space.op_counts(network.genotype).items()}


def _copies(reference: str) -> int:
    spec = parse_graph_spec(reference)
    return spec.copies if isinstance(spec, ChainGraph | ParallelGraph) else 1
