"""What measures single kernels: each as (time of many copies - time of few) / the difference."""

from __future__ import annotations

from shared.kernels.kernel import Kernel
from shared.measurements.graph_spec import KernelGraph
from shared.measurements.plan import LONG_CHAIN, SHORT_CHAIN, Task

COPIES = ((20_000_000, LONG_CHAIN, SHORT_CHAIN), (100_000_000, 4, 1))
"""Work up to which a kernel is repeated so often: a round of a large one would take seconds."""
FEWEST_COPIES = (2, 1)
ELEMENT_WORK = 10
"""An element read or written, in multiply-adds."""
MOST_REPEATED_WEIGHTS = 16_000_000
"""Every copy has weights of its own: above, one copy has to do."""


def kernel_task(kernel: Kernel, slow: bool = False) -> Task:
    """The task that measures a kernel.

    Args:
        kernel: as a runtime executes it.
        slow: it takes so long that a call's cost does not matter beside it: one copy, and nothing is subtracted.
    """
    subject = str(kernel)
    if slow or kernel.weights() > MOST_REPEATED_WEIGHTS:
        return Task(subject, "kernel", str(KernelGraph(1, kernel)))
    work = kernel.multiply_adds() + ELEMENT_WORK * kernel.elements()
    long, short = next(((many, few) for limit, many, few in COPIES if work <= limit), FEWEST_COPIES)
    return Task(subject, "kernel", str(KernelGraph(long, kernel)), str(KernelGraph(short, kernel)), long - short)
