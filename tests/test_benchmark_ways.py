"""The benchmarks that compare ways of measuring."""

import pytest

from benchmarks.latency.carriers import COPIES, build_carrier
from benchmarks.latency.fixed_runs import add_up, fit_line, fixed_runs_ms, mape_percent
from benchmarks.latency.in_process import build_models, measure_tasks
from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.sessions import local_runtime
from profiler_agent.timing.stopping import Preset
from shared.measurements.plan import make_plan
from shared.spaces import make_space
from shared.spaces.op_key import OpKey, Shape

SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1, classes=3)


def test_a_line_is_fitted_to_relative_errors():
    assert fit_line([1.0, 2.0, 3.0], [3.0, 5.0, 7.0]) == pytest.approx((1.0, 2.0))
    assert mape_percent([1.1, 1.8], [1.0, 2.0]) == pytest.approx(10.0)


def test_a_network_is_the_sum_of_its_ops_and_of_the_fixed_part():
    prices_ms = dict.fromkeys((*SPACE.op_keys(), *SPACE.fixed_ops()), 1.0)
    genotype = SPACE.fastest()
    ops = sum(SPACE.op_counts(genotype).values())
    assert add_up(SPACE, genotype, prices_ms) == ops + len(SPACE.fixed_ops())


def test_an_op_that_takes_a_hundred_times_the_work_takes_longer_by_fixed_runs():
    small, large = (OpKey("nor_conv_3x3", Shape(c, 16, 16), Shape(c, 16, 16), 1) for c in (4, 64))
    assert fixed_runs_ms(small, warm_up_s=0.02) < fixed_runs_ms(large, warm_up_s=0.02)


def test_carriers_differ_by_the_ops_that_they_carry():
    key = OpKey("sep_conv_3x3", Shape(4, 8, 8), Shape(4, 4, 4), 2)
    with_op, without = (
        sum(count_kernels("carrier", build_carrier(key, carries), local_runtime()).values())
        for carries in (True, False)
    )
    assert with_op - without >= 4 * COPIES, "two depthwise and two pointwise convolutions each"


def test_tasks_measured_in_this_process_come_back_in_their_order():
    tasks = make_plan(SPACE, 1, 1).tasks[-3:]
    measured = measure_tasks(tasks, build_models(tasks), preset=Preset("test", 1.0, 2, 2, 1.0))
    assert [(each.subject, each.role) for each in measured] == [(task.subject, task.role) for task in tasks]
    assert all(len(each.rounds) == 2 and each.estimate().ratio > 0 for each in measured)
    again = measure_tasks(tasks[:1], build_models(tasks[:1]), preset=Preset("test", 1.0, 2, 2, 1.0))
    assert len({each.id for each in (*measured, *again)}) == len(measured) + 1, "levels go by these names"
