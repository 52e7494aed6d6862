import pytest
import torch
from torch.nn import functional as F

from search.latency.slot_costs import RESOURCES
from search.strategies.dca_nas.dca_nas import DcaNas, DcaUpdates, Multiplier, new_slim_supernet
from search.strategies.dca_nas.slim_supernet import SlimSupernet
from search.supernet import Supernet
from shared.errors import InvalidValue, UnknownName
from shared.spaces import make_space

CELLS = make_space("nas-bench-201", resolution=8, channels=4, depth=1, image_channels=1)
DARTS = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)
FBNET = make_space("fbnet", resolution=8, channels=8, depth=1, classes=10, image_channels=1)
TWO_CELLS = make_space("nas-bench-201", resolution=8, channels=8, depth=2, image_channels=1)


def uniform_gates(space) -> torch.Tensor:
    shape = len(space.slots), len(space.slots[0].primitives)
    return torch.full(shape, 1 / shape[1])


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_multiplier_rises_while_the_constraint_is_violated_and_falls_when_it_is_met():
    multiplier = Multiplier(0.1)
    values = []
    for violation in (0.5, 0.2, 0.1, -0.1, -0.3, -5.0):
        multiplier.ascend(violation)
        values.append(float(multiplier.value))
    assert values == pytest.approx([0.05, 0.07, 0.08, 0.07, 0.04, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("space", "resource"),
    [(CELLS, "latency"), (CELLS, "parameters"), (CELLS, "flops"), (DARTS, "latency"), (FBNET, "flops")],
    ids=str,
)
def test_a_search_brings_its_resource_under_the_budget_and_lowers_the_multiplier(resource, make_bench, space, tmp_path):
    """The whole loop: a violated constraint, a rising multiplier, a met constraint, a falling multiplier."""
    bench = make_bench(space, tmp_path)
    costs = RESOURCES[resource](bench.table)
    settings = DcaNas(resource=resource, multiplier_rate=2.0, alpha_lr=0.3, alpha_weight_decay=0.0)
    start = float(costs.expected(uniform_gates(space)))
    budget = start - 0.5 * (start - costs.smallest)
    updates = DcaUpdates(settings, bench, costs, budget)
    told = [updates.update(step % 4) for step in range(16)]
    assert told[0]["violation"] > 0
    violations, multipliers = ([losses[key] for losses in told] for key in ("violation", "multiplier"))
    assert min(violations) < 0.01
    rising = [(b > a, v > 0) for a, b, v in zip(multipliers, multipliers[1:], violations[1:], strict=False)]
    assert all(up == violated for up, violated in rising if multipliers[-1] > 0 or up)


def test_alpha_follows_the_gradient_of_the_lagrangian(make_bench, space, tmp_path):
    bench = make_bench(space, tmp_path)
    costs = RESOURCES["latency"](bench.table)
    updates = DcaUpdates(DcaNas(), bench, costs, costs.smallest * 2)
    updates.multiplier.value.fill_(3.0)
    updates.supernet.double(), updates.alphas.double()
    images, labels = bench.alpha_batches.batch(0)
    alphas = updates.alphas.values
    loss, violation = updates.lagrangian(images.double(), labels)
    (gradient,) = torch.autograd.grad(loss, alphas)
    probabilities = torch.softmax(alphas.detach(), dim=1)
    assert violation == pytest.approx(float(costs.expected(probabilities)) / (2 * costs.smallest) - 1)
    direction = torch.randn(alphas.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            alphas += sign * 1e-5 * direction
            gates = torch.softmax(alphas, dim=1)
            entropy = F.cross_entropy(updates.supernet(images.double(), gates), labels)
            values.append(float(entropy + 3.0 * (costs.expected(gates) / (2 * costs.smallest) - 1)))
    assert float((gradient * direction).sum()) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3)


def test_ops_that_read_the_same_node_share_weights_and_run_once(space):
    plain, slim = SlimSupernet(space), SlimSupernet(space, shares_sources=True)
    runs = [0, 0]
    for place, supernet in enumerate((plain, slim)):
        for module in supernet.ops.values():

            def count_run(*_, place=place) -> None:
                runs[place] += 1

            module.register_forward_hook(count_run)
        supernet(torch.randn(2, 1, 8, 8), uniform_gates(space))
    if space.name in ("fbnet", "nas-bench-macro"):  # a chain: no two slots read the same map
        assert runs[0] == runs[1]
        assert count(plain) == count(slim)
    else:
        assert runs[1] < 0.75 * runs[0]
        assert count(slim) < 0.85 * count(plain)


def test_cells_of_a_kind_share_the_weights_of_the_first():
    own, derived = SlimSupernet(TWO_CELLS), SlimSupernet(TWO_CELLS, derives_cells=True)
    once = SlimSupernet(make_space("nas-bench-201", resolution=8, channels=8, depth=1, image_channels=1))
    assert count(derived) == count(once) < count(own)
    four_normal = make_space("darts", resolution=8, channels=4, depth=6, image_channels=1)
    assert count(SlimSupernet(four_normal, derives_cells=True)) < count(SlimSupernet(four_normal))


def test_a_bottleneck_leaves_candidates_a_share_of_the_channels(space):
    depth = {"darts": 3, "nas-bench-macro": 2}.get(space.name, 1)
    wide = make_space(space.name, resolution=8, channels=32, depth=depth, image_channels=1, classes=10)
    full, narrow = SlimSupernet(wide), SlimSupernet(wide, bottleneck=4)
    logits = narrow(torch.randn(2, 1, 8, 8), uniform_gates(wide))
    assert logits.shape == (2, 10)
    assert count(narrow) < 0.6 * count(full)


def test_without_flags_the_slim_supernet_computes_what_the_common_one_does(space, make_bench, tmp_path):
    bench = make_bench(space, tmp_path)
    none = DcaNas(shares_sources=False, derives_cells=False, bottleneck=1)
    assert isinstance(new_slim_supernet(none, bench), Supernet)
    assert isinstance(new_slim_supernet(DcaNas(), bench), SlimSupernet)
    common, slim = bench.new_supernet(), SlimSupernet(space).train()
    for step in space.supernet_wiring():
        if step.join is None:
            theirs = common.get_submodule(step.name.rstrip("."))
            for primitive, op in theirs.items() if step.candidates else [("", theirs)]:
                slim.ops[f"{step.name}{primitive}".replace(".", "_")].load_state_dict(op.state_dict())
    images, gates = torch.randn(4, 1, 8, 8), torch.softmax(torch.randn(uniform_gates(space).shape), dim=1)
    torch.testing.assert_close(slim(images, gates), common(images, gates), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("flags", [{"shares_sources": True}, {"derives_cells": True}, {"bottleneck": 2}])
def test_every_flag_alone_trains(flags, make_bench, space, tmp_path):
    bench = make_bench(space, tmp_path)
    costs = RESOURCES["latency"](bench.table)
    off = {"shares_sources": False, "derives_cells": False, "bottleneck": 1}
    updates = DcaUpdates(DcaNas(**{**off, **flags}), bench, costs, costs.largest)
    before = [weight.detach().clone() for weight in updates.weights]
    updates.update(0)
    assert all(torch.isfinite(weight).all() for weight in updates.weights)
    moved = sum(not torch.equal(a, b) for a, b in zip(before, updates.weights, strict=True))
    assert moved > 0.9 * len(before)


def test_wrong_options_are_refused():
    with pytest.raises(UnknownName, match="flops, latency, parameters"):
        DcaNas(resource="energy")
    for wrong in ({"graph_points": 1}, {"bottleneck": 0}, {"multiplier_rate": 0.0}):
        with pytest.raises(InvalidValue):
            DcaNas(**wrong)
