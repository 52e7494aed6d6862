"""What measures single kernels: each as (time of many copies - time of few) / the difference."""

from __future__ import annotations

from shared.kernels.kernel import Kernel
from shared.measurements.graph_spec import KernelGraph
from shared.measurements.plan import LONG_CHAIN, SHORT_CHAIN, Task

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
