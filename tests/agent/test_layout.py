"""Layout reorders that do not cancel, in what ONNX Runtime really makes of the three spaces' graphs."""

import re
from functools import cache

import pytest

from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.kernels.reorders import odd_reorders
from profiler_agent.ort.sessions import local_runtime
from shared.graphs import build_graph
from shared.measurements.graph_spec import ChainGraph, parse_graph_spec
from shared.measurements.plan import Task, make_plan
from shared.spaces import Darts, FBNet, NasBench201
from shared.spaces.op_key import parse_op_key

RESIDUAL = "k3_e1/24x16x16/24x16x16/s1"


@cache
def kernels_of(reference, optimisation="all"):
    model = build_graph(parse_graph_spec(reference))
    return dict(count_kernels(reference, model, local_runtime(optimisation=optimisation)))


def plan_with_kernels(space, networks=2):
    plan = make_plan(space, networks, 1)
    return plan, {reference: kernels_of(reference) for reference in plan.graphs()}


def marginal(op_key):
    key = parse_op_key(op_key)
    return Task(op_key, "marginal", str(ChainGraph(8, key)), str(ChainGraph(2, key)), 6)


@pytest.mark.parametrize("channels", [3, 4, 12, 16])
def test_an_ordinary_run_of_nas_bench_201_has_nothing_odd_whatever_its_channels(channels):
    """Below a block of channels (8 or 16, by the processor) each convolution is followed by a reorder,
    but in its networks too.
    """
    plan, kernels = plan_with_kernels(NasBench201(resolution=8, channels=channels, depth=1), networks=6)
    assert odd_reorders(plan.tasks, kernels) == {}


def test_less_than_a_block_of_channels_does_bring_reorders_into_the_chain():
    long = kernels_of("chain:8:nor_conv_3x3/4x8x8/4x8x8/s1")
    assert sum(n for name, n in long.items() if name.startswith("nchwc.ReorderOutput/")) == 8


def test_branches_that_reorder_their_inputs_are_named_where_networks_do_not():
    plan, kernels = plan_with_kernels(Darts(resolution=16, channels=16, depth=3))
    odd = odd_reorders(plan.tasks, kernels)
    assert odd
    assert all(reference.startswith("parallel:") for reference in odd)
    pool = "parallel:8:avg_pool_3x3/32x16x16/32x8x8/s2"
    assert odd.get(pool, "").startswith("a layout reorder in each branch: 6 more in 8 copies than in 2, of which")


def test_a_residual_chain_in_plain_layout_is_named_and_without_layouts_nothing_is():
    """FBNet's blocks add their input: in a chain that begins in plain layout each addition stays there."""
    space = FBNet(resolution=64, channels=16, depth=2)
    plan, kernels = plan_with_kernels(space, networks=12)
    odd = odd_reorders(plan.tasks, kernels)
    chains = {reference: reason for reference, reason in odd.items() if reference.startswith("chain:")}
    assert chains
    assert not any("_g2" in reference for reference in chains)  # a channel shuffle needs its reorders in networks too
    for reason in chains.values():
        assert re.match(r"a layout reorder inside the chain: (6|12) more in 8 copies than in 2, of which", reason)
    plain = {reference: kernels_of(reference, "basic") for reference in plan.graphs()}
    assert odd_reorders(plan.tasks, plain) == {}


def test_without_kernels_or_networks_nothing_is_judged():
    task = marginal(RESIDUAL)
    kernels = {reference: kernels_of(reference) for reference in task.graphs}
    assert odd_reorders([task], kernels) == {}
    assert odd_reorders([task], {}) == {}
