from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from search.latency.slot_costs import RESOURCES
from search.strategies.bilevel_loop import CHECKPOINT
from search.strategies.budgets import Attempt
from search.strategies.dca_nas import dca_nas
from search.strategies.dca_nas.dca_nas import (
    DcaNas,
    DcaUpdates,
    Multiplier,
    Run,
    best_run,
    idle_savings,
    new_slim_supernet,
)
from search.strategies.dca_nas.slim_supernet import SlimSupernet, repeated_steps, top_weighted
from search.strategies.discretize import strongest
from search.supernet import Supernet
from shared.errors import InvalidValue, UnknownName
from shared.spaces import Genotype, make_space

CELLS = make_space("nas-bench-201", resolution=8, channels=4, depth=1, image_channels=1)
DARTS = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)
FBNET = make_space("fbnet", resolution=8, channels=8, depth=1, classes=10, image_channels=1)
TWO_CELLS = make_space("nas-bench-201", resolution=8, channels=8, depth=2, image_channels=1)
EIGHT_CELLS = make_space("darts", resolution=8, channels=4, image_channels=1)


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
    settings = DcaNas(resource=resource, multiplier_rate=6.0, alpha_lr=0.3, alpha_weight_decay=0.0)
    start = float(costs.expected(uniform_gates(space)))
    budget = start - 0.5 * (start - costs.smallest)
    updates = DcaUpdates(settings, bench, costs, budget)
    told = [updates.update(step % 4) for step in range(16)]
    assert told[0]["violation"] > 0
    violations, multipliers = ([losses[key] for losses in told] for key in ("violation", "multiplier"))
    assert min(violations) < 0.01
    rising = [(b > a, v > 0) for a, b, v in zip(multipliers, multipliers[1:], violations[1:], strict=False)]
    assert all(up == violated for up, violated in rising if multipliers[-1] > 0 or up)


def test_alpha_descends_and_lambda_ascends_the_gradient_of_the_lagrangian(make_bench, space, tmp_path):
    bench = make_bench(space, tmp_path)
    costs = RESOURCES["latency"](bench.table)
    updates = DcaUpdates(DcaNas(), bench, costs, costs.smallest * 2)
    multiplier = updates.multiplier.value.fill_(3.0).requires_grad_(True)
    updates.supernet.double(), updates.alphas.double()
    images, labels = bench.alpha_batches.batch(0)
    alphas = updates.alphas.values
    gradient, by_lambda = torch.autograd.grad(updates.lagrangian(images.double(), labels), [alphas, multiplier])
    probabilities = torch.softmax(alphas.detach(), dim=1)
    assert float(by_lambda) == pytest.approx(float(costs.expected(probabilities) - 2 * costs.smallest) / costs.largest)
    multiplier.requires_grad_(False)
    # Steps of alpha that change no derived cell: those follow alpha in jumps, which have no gradient.
    direction = torch.randn(alphas.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            alphas += sign * 1e-6 * direction
            gates = torch.softmax(alphas, dim=1)
            entropy = F.cross_entropy(updates.supernet(images.double(), gates), labels)
            expected = (costs.expected(gates) - 2 * costs.smallest) / costs.largest
            values.append(float(entropy + multiplier * expected))
    assert float((gradient * direction).sum()) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-3)
    updates.multiplier.ascend(float(by_lambda))
    assert float(multiplier) == pytest.approx(3.0 + DcaNas().multiplier_rate * float(by_lambda))


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


def test_the_first_cell_of_a_kind_is_searched_and_the_others_are_derived():
    assert {name.split(".")[1] for name in repeated_steps(EIGHT_CELLS)} == {"1", "3", "4", "5", "6", "7"}
    assert {tuple(name.split(".")[1:3]) for name in repeated_steps(CELLS)} == {("1", "0"), ("2", "0")}
    assert repeated_steps(FBNET) == frozenset()


@pytest.mark.parametrize("space", [TWO_CELLS, EIGHT_CELLS], ids=str)
def test_derived_cells_run_the_top_weighted_ops_and_are_derived_anew(space):
    supernet, derived = SlimSupernet(space, derives_cells=True), repeated_steps(space)
    of_derived_cells = {op_name(name, primitive) for name in derived for primitive in space.slots[0].primitives}
    ran: set[str] = set()
    for name, op in supernet.ops.items():
        op.register_forward_hook(lambda *_, name=name: ran.add(name))
    seen = []
    for seed in range(2):
        gates = drawn_gates(space, seed)
        ran.clear()
        supernet(torch.randn(2, 1, 8, 8), gates)
        network = space.wiring(top_weighted(space, gates))
        seen.append({op_name(step.name, step.key.primitive) for step in network if step.name in derived})
        assert ran & of_derived_cells == seen[-1]
    assert seen[0] != seen[1]


def test_derived_cells_have_no_gates_and_cost_less():
    gates = drawn_gates(EIGHT_CELLS, 0).requires_grad_(True)
    every, derived = (SlimSupernet(EIGHT_CELLS, derives_cells=flag) for flag in (False, True))
    runs = []
    for supernet in (every, derived):
        count_of = []
        for op in supernet.ops.values():
            op.register_forward_hook(lambda *_, count_of=count_of: count_of.append(1))
        supernet(torch.randn(2, 1, 8, 8), gates)
        runs.append(len(count_of))
    assert runs[1] < 0.45 * runs[0]  # 2 of 8 cells have 7 ops on 14 edges, 6 of 8 one op on 8 edges
    last_cell_alone = next(name for name in derived.ops if name.startswith("cells_7"))
    assert count(derived.ops[last_cell_alone]) == count(every.ops[last_cell_alone])


def test_a_cell_that_would_connect_nothing_is_derived_without_none():
    gates = torch.full((6, 5), 0.1)
    gates[:, 0], gates[:, 3] = 0.6, 0.2
    assert not CELLS.is_connected(strongest(CELLS, gates.log()))
    assert top_weighted(CELLS, gates).choices == ("nor_conv_3x3",) * 6


def drawn_gates(space, seed: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.softmax(torch.randn(uniform_gates(space).shape, generator=draws), dim=1)


def op_name(step_name: str, primitive: str) -> str:
    """Of an op that shares its weights with no other edge."""
    return f"{step_name}{primitive}".replace(".", "_")


def test_the_best_run_keeps_the_budget_and_has_the_highest_accuracy(make_bench, tmp_path):
    def run(upper_ms: float, accuracy: float) -> Run:
        return Run(Attempt(torch.zeros(1, 1), CELLS.fastest() if upper_ms else None, upper_ms), upper_ms, accuracy)

    fast, better, slow, broken = run(1.0, 0.5), run(1.5, 0.6), run(3.0, 0.9), run(0.0, 0.99)
    assert best_run([fast, better, slow, broken], 2.0) is better
    assert best_run([slow, run(4.0, 0.8), broken], 2.0) is slow
    assert best_run([broken], 2.0) is broken


def test_a_search_runs_as_often_as_asked_from_other_first_weights(make_bench, tmp_path):
    bench = replace(make_bench(CELLS, tmp_path), budgets_ms=(1e9,))
    outcome = DcaNas(runs=3, graph_points=2).search(bench)
    assert "4 whole searches for 1 budgets" in outcome.notes  # two of the graph, and two more at its last budget
    assert outcome.training_images == 4 * bench.config.total_steps * bench.batch_size
    alphas = [torch.load(path / CHECKPOINT)["state"]["alphas"]["values"] for path in sorted(tmp_path.glob("*-run-*"))]
    assert len({tuple(values.flatten().tolist()) for values in alphas}) == 4


def test_runs_share_their_images_and_the_graph_has_no_network_without_a_way_through(make_bench, tmp_path, monkeypatch):
    seen, derived = [], []
    monkeypatch.setattr(dca_nas, "strongest", lambda space, alphas: derived.append(1) or Genotype(("none",) * 6))
    monkeypatch.setattr(DcaUpdates, "validation_accuracy", lambda self: seen.append(self.bench.splits) or 0.5)
    bench = replace(make_bench(CELLS, tmp_path), budgets_ms=(1e9,))
    outcome = DcaNas(runs=2, graph_points=2).search(bench)
    assert len(derived) == len(seen) == 3
    assert all(torch.equal(splits.validation, bench.splits.validation) for splits in seen)
    assert not any(proposal.derived for proposal in outcome.proposals)
    (graph,) = (note for note in outcome.notes if note.startswith("look-up graph"))
    assert "to 0 ms" not in graph


def test_a_search_without_its_constraint_draws_no_graph_and_keeps_lambda_at_zero(make_bench, tmp_path):
    bench = make_bench(CELLS, tmp_path)
    outcome = DcaNas(runs=1, constrains=False).search(bench)
    assert f"1 whole searches for {len(bench.budgets_ms)} budgets" in outcome.notes
    (folder,) = tmp_path.glob("*-run-0")
    assert float(torch.load(folder / CHECKPOINT)["state"]["multiplier"]["value"]) == 0


CHAINS = ("fbnet", "nas-bench-macro")


def test_savings_that_have_nothing_to_save_are_named(space):
    assert len(idle_savings(DcaNas(), space)) == (2 if space.name in CHAINS else 0)
    assert idle_savings(DcaNas(shares_sources=False, derives_cells=False), FBNET) == []


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
    if flags == {"derives_cells": True} and space.name not in CHAINS:  # a derived cell trains the ops that it runs
        assert 0.2 * len(before) < moved < 0.8 * len(before)
    else:
        assert moved > 0.9 * len(before)


def test_wrong_options_are_refused():
    with pytest.raises(UnknownName, match="flops, latency, parameters"):
        DcaNas(resource="energy")
    for wrong in ({"graph_points": 1}, {"runs": 0}, {"bottleneck": 0}, {"multiplier_rate": 0.0}):
        with pytest.raises(InvalidValue):
            DcaNas(**wrong)
