"""What measures single kernels: each as (time of many copies - time of few) / the difference."""

from __future__ import annotations

from collections.abc import Iterable

from shared.kernels.kernel import Kernel
from shared.measurements.graph_spec import KernelGraph
from shared.measurements.plan import LONG_CHAIN, SHORT_CHAIN, Task

ANCHOR_SIDES = (1, 16, 16, 16)
ANCHOR = Kernel("nchwc.Conv", ANCHOR_SIDES, ANCHOR_SIDES, "k3x3.s1x1.g1.d1x1")
"""Measured in a row and side by side: the difference is what reading a result at one position costs."""
COPIES = ((20_000_000, LONG_CHAIN, SHORT_CHAIN), (100_000_000, 4, 1))
"""Multiply-adds up to which a kernel is repeated so often: a round of a large one would take seconds."""
FEWEST_COPIES = (2, 1)


def kernel_tasks(kernels: Iterable[Kernel], measure_reading: bool = True) -> tuple[Task, ...]:
    """One task for each kernel; with `measure_reading` one more, which with the anchor's own tells what reading costs.

    Raises:
        InvalidValue: a kernel's family cannot be measured alone.
    """
    tasks = [_task(kernel) for kernel in sorted(set(kernels))]
    return (*tasks, _task(ANCHOR, probed=True)) if measure_reading else tuple(tasks)


def _task(kernel: Kernel, probed: bool = False) -> Task:
    work = kernel.multiply_adds()
    long, short = next(((many, few) for limit, many, few in COPIES if work <= limit), FEWEST_COPIES)
    graphs = [str(KernelGraph(copies, kernel, probed)) for copies in (long, short)]
    return Task(str(kernel), "kernel", graphs[0], graphs[1], long - short)
