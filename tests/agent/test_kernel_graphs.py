"""Graphs of one kernel: the runtime has to make exactly that kernel of them, so many times."""

from collections import Counter

import pytest

from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.sessions import local_runtime, optimise
from shared.errors import InvalidValue
from shared.graphs import build_graph
from shared.graphs.kernels import companions
from shared.kernels.kernel import parse_kernel
from shared.measurements.graph_spec import KernelGraph, parse_graph_spec
from shared.measurements.plan import kernel_tasks

KERNELS = (
    "nchwc.Conv/1x16x8x8/1x16x8x8/k3x3.s1x1.g1.d1x1",
    "nchwc.Conv/1x3x16x16/1x16x8x8/k5x5.s2x2.g1.d1x1.Relu",
    "nchwc.Conv/1x32x8x8/1x32x8x8/k3x3.s1x1.g1.d1x1.sum.Relu",
    "nchwc.Conv/1x32x9x9/1x32x5x5/k3x3.s2x2.g32.d1x1.Clip",
    "nchwc.Conv/1x16x8x8/1x64x8x8/k1x1.s1x1.g1.d1x1.HardSwish",
    "nchwc.Conv/1x64x8x8/1x64x8x8/k3x3.s1x1.g64.d2x2",
    "nchwc.Conv/1x64x8x8/1x64x8x8/k1x1.s1x1.g4.d1x1",
    "nchwc.Conv/1x16x1x1/1x32x1x1/k1x1.s1x1.g1.d1x1",
    "nchwc.MaxPool/1x16x9x9/1x16x4x4/k2x2.s2x2",
    "nchwc.AveragePool/1x16x8x8/1x16x8x8/k3x3.s1x1",
    "nchwc.GlobalAveragePool/1x32x4x4/1x32x1x1",
    "nchwc.ReorderInput/1x16x8x8/1x16x8x8",
    "nchwc.ReorderInput/1x24x8x8/1x24x8x8",
    "nchwc.ReorderOutput/1x16x8x8/1x12x8x8",  # 12 fill no whole blocks, be they of 8 or of 16
    "MaxPool/1x5x8x8/1x5x4x4/k2x2.s2x2",
    "Concat/1x16x8x8/1x48x8x8/n3",
    "Gemm/1x64/1x10",
    "ms.FusedGemm/1x64/1x10/Relu",
    "MatMul/1x64/1x10",
    "Mul/1x16x8x8/1x16x8x8",
    "HardSigmoid/1x16x8x8/1x16x8x8",
    "BatchNormalization/1x5x8x8/1x5x8x8",
    "ReduceMean/1x16x8x8/1x16",
    "Flatten/1x16x2x2/1x64",
)


def counts_of(reference: str) -> Counter[str]:
    return count_kernels(optimise(reference, build_graph(parse_graph_spec(reference)), local_runtime()))


@pytest.mark.parametrize("kernel", KERNELS)
def test_long_minus_short_is_the_kernel_and_at_most_what_reads_its_results(kernel):
    task = next(task for task in kernel_tasks([parse_kernel(kernel)]) if task.subject == kernel)
    difference = counts_of(task.graph)
    difference.subtract(counts_of(task.minus))
    assert difference.pop(kernel) == task.divisor
    along = {str(one) for one in companions(parse_kernel(kernel))}
    for other, n in difference.items():
        if n and other not in along:
            assert other.startswith(("nchwc.MaxPool", "MaxPool", "Add", "Mul", "nchwc.Reorder", "Concat", "Reshape")), (
                other
            )


def test_a_large_kernel_is_repeated_less_often():
    large = parse_kernel("nchwc.Conv/1x64x112x112/1x64x112x112/k3x3.s1x1.g1.d1x1")
    assert kernel_tasks([large], measure_reading=False)[0].graph == f"kernel:2:{large}"


def test_a_single_copy_is_read_like_several():
    """Else the short graph would hold what the long one does not, and nothing could be learnt from their difference."""
    kernel = parse_kernel("nchwc.Conv/1x48x32x32/1x96x32x32/k3x3.s1x1.g1.d1x1.Relu")
    task = kernel_tasks([kernel], measure_reading=False)[0]
    assert (task.graph, task.minus) == (f"kernel:4:{kernel}", f"kernel:1:{kernel}")
    difference = counts_of(task.graph)
    difference.subtract(counts_of(task.minus))
    assert difference[str(kernel)] == 3
    assert min(difference.values()) >= 0


def test_a_kernel_reference_reads_back():
    for kernel in KERNELS:
        spec = KernelGraph(8, parse_kernel(kernel), probed=True)
        assert parse_graph_spec(str(spec)) == spec


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        ("LSTM/1x4x8/1x4x8", "LSTM cannot be measured alone"),
        ("nchwc.Conv/1x16x8x8/1x16x8x8/k3x3.s1x1.g3.d1x1", "do not divide"),
        ("nchwc.Conv/1x16x8x8/1x16x8x8/k3x3.s1x1.g0.d1x1", "0 groups do not divide"),
        ("nchwc.MaxPool/1x16x8x8/1x16x2x2/k2x2.s2x2", "no padding gives this output"),
        ("Concat/1x16x8x8/1x17x8x8/n4", "do not add up"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(kernel, problem):
    with pytest.raises(InvalidValue, match=problem):
        build_graph(parse_graph_spec(f"kernel:2:{kernel}"))
