import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from search.genotypes.constrained_argmax import draw_choices, log_probability, to_genotype
from search.process.randomness import generator
from search.strategies.proxylessnas.binary_gates import (
    SampledPaths,
    binary_gates,
    keep_unsampled_probabilities,
    sample_paths,
)
from search.strategies.proxylessnas.proxylessnas import (
    Baseline,
    ProxylessNAS,
    ProxylessUpdates,
    additive_step,
    reward,
    reward_step,
    warm_up_updates,
)
from shared.errors import InvalidValue


def logits_of(space) -> torch.Tensor:
    random = torch.Generator().manual_seed(5)
    return torch.randn(len(space.slots), len(space.slots[0].primitives), generator=random)


def test_two_paths_of_each_slot_are_sampled_and_the_active_ones_are_a_network(space):
    alphas = logits_of(space)
    grouped = {slot for group in space.groups for slot in group.slots}
    for draw in range(20):
        paths = sample_paths(alphas, space, generator(draw, "test"))
        counts = paths.sampled.sum(dim=1)
        assert counts.tolist() == [3 if slot in grouped else 2 for slot in range(len(alphas))]
        assert paths.sampled.gather(1, paths.active[:, None]).all()
        assert space.is_connected(to_genotype(space, paths.active))
        torch.testing.assert_close(paths.probabilities.sum(dim=1), torch.ones(len(alphas)))
        assert (paths.probabilities[~paths.sampled] == 0).all()


def test_the_gradient_is_equation_4_between_the_sampled_paths(space):
    """dL/dalpha_i = sum over j of dL/dg_j p_j (delta_ij - p_i), written out."""
    alphas = logits_of(space).requires_grad_()
    paths = sample_paths(alphas, space, generator(0, "test"))
    gates = binary_gates(paths)
    assert torch.equal(gates.detach(), F.one_hot(paths.active, alphas.shape[1]).float())
    by_gate = torch.randn(alphas.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((gates * by_gate).sum(), alphas)
    for slot, row in enumerate(paths.sampled):
        two = row.nonzero().flatten().tolist()
        weights = {j: math.exp(float(alphas[slot, j].detach())) for j in two}
        p = {j: weights[j] / sum(weights.values()) for j in two}
        for i in range(len(row)):
            expected = sum(float(by_gate[slot, j]) * p[j] * ((i == j) - p[i]) for j in two) if i in two else 0.0
            assert float(gradient[slot, i]) == pytest.approx(expected, abs=1e-6)


def test_the_gate_of_the_path_that_does_not_run_gets_the_gradient_of_its_own_output(make_bench, space, tmp_path):
    """dL/dg_j equals a difference quotient in g_j."""
    updates = ProxylessUpdates(ProxylessNAS(), make_bench(space, tmp_path))
    updates.supernet.double()
    images, labels = updates.validation_batch(0)
    paths = sample_paths(updates.alphas().detach(), space, generator(0, "test"))
    columns = [row.nonzero().flatten().tolist() for row in paths.sampled]
    gates = F.one_hot(paths.active, paths.sampled.shape[1]).double().requires_grad_()

    def loss(values: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(updates.supernet(images.double(), values, columns), labels)

    (gradient,) = torch.autograd.grad(loss(gates), gates)
    inactive = (paths.sampled & (gates == 0)).double() * torch.randn(
        gates.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    with torch.no_grad():
        slope = (loss(gates + 1e-5 * inactive) - loss(gates - 1e-5 * inactive)) / 2e-5
    assert float((gradient * inactive).sum()) == pytest.approx(float(slope), rel=1e-2, abs=1e-7)


def test_an_update_leaves_the_probabilities_of_all_other_paths_as_they_were(make_bench, space, tmp_path):
    updates = ProxylessUpdates(ProxylessNAS(alpha_lr=0.5), make_bench(space, tmp_path))
    for step in range(3):  # later updates have optimiser states of paths that are not sampled any more
        before = torch.softmax(updates.alphas().detach(), dim=1)
        paths = sample_paths(updates.alphas().detach(), space, updates.random("two paths", step))
        additive_step(updates, step, 1.0)
        after = torch.softmax(updates.alphas().detach(), dim=1)
        torch.testing.assert_close(after[~paths.sampled], before[~paths.sampled])
        assert not torch.equal(after[paths.sampled], before[paths.sampled])


def test_the_shift_keeps_the_probability_of_unsampled_paths():
    alphas, before = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.5, 3.0]])
    sampled = torch.tensor([[True, True, False]])
    keep_unsampled_probabilities(alphas, before, sampled)
    assert float(torch.softmax(alphas, dim=1)[0, 2]) == pytest.approx(float(torch.softmax(before, dim=1)[0, 2]))
    assert float(alphas[0, 1] - alphas[0, 0]) == pytest.approx(1.0)


def test_expected_latency_pulls_towards_the_faster_of_two_paths(make_bench, space, tmp_path):
    updates = ProxylessUpdates(ProxylessNAS(), make_bench(space, tmp_path))
    alphas = updates.alphas.values
    paths = sample_paths(alphas, space, generator(0, "test"))
    (gradient,) = torch.autograd.grad(updates.latency.expected(paths.probabilities), alphas)
    slowest = updates.latency.choices.masked_fill(~paths.sampled, -torch.inf).argmax(dim=1)
    assert (gradient.gather(1, slowest[:, None]) >= 0).all()
    assert (gradient.gather(1, slowest[:, None]) > 0).any()
    assert (gradient[~paths.sampled] == 0).all()


def test_reward_is_accuracy_times_a_power_of_the_relative_latency(make_bench, space, tmp_path):
    bench = make_bench(space, tmp_path)
    updates = ProxylessUpdates(ProxylessNAS(exponent=-0.5), bench)
    images, labels = updates.validation_batch(0)
    genotype = bench.decoder.fastest
    latency_ms = bench.table.predict(genotype).mean_ms
    accuracy = float((updates.supernet(images, genotype).argmax(dim=1) == labels).double().mean())
    rewards = [reward(updates, genotype, images, labels, target) for target in (latency_ms, latency_ms / 4)]
    assert rewards[0] == pytest.approx(accuracy)
    assert rewards[1] == pytest.approx(accuracy / 2)
    if space.name == "nas-bench-201":
        nothing = type(genotype)(("none",) * 6)
        assert reward(updates, nothing, images, labels, latency_ms) == 0


def test_reinforce_moves_alpha_by_rewards_less_their_baseline_times_the_score(make_bench, space, tmp_path):
    updates = ProxylessUpdates(ProxylessNAS(samples=3, baseline_share=0.9), make_bench(space, tmp_path))
    updates.baseline.update(torch.tensor(0.5), 0.9)
    alphas = updates.alphas().detach().clone().requires_grad_()
    images, labels = updates.validation_batch(4)
    random = updates.random("networks", 4)
    drawn = [draw_choices(space, alphas.detach(), random) for _ in range(3)]
    rewards = [reward(updates, to_genotype(space, columns), images, labels, 0.1) for columns in drawn]
    baseline = 0.1 * 0.5 + 0.9 * sum(rewards) / 3
    by_hand = torch.zeros_like(alphas)
    for columns, value in zip(drawn, rewards, strict=True):
        by_hand += (value - baseline) / 3 * torch.autograd.grad(log_probability(space, alphas, columns), alphas)[0]
    reward_step(updates, 4, 0.1)
    torch.testing.assert_close(updates.alphas.values.grad, -by_hand, rtol=1e-4, atol=1e-7)
    moved = updates.alphas().detach() - alphas.detach()
    clear = by_hand.abs() > 1e-4
    assert torch.equal(moved[clear].sign(), by_hand[clear].sign())  # upwards


def test_the_baseline_is_a_running_mean_with_the_newest_rewards():
    baseline = Baseline()
    given = [float(baseline.update(torch.tensor(mean), 0.75)) for mean in (2.0, 4.0, 8.0)]
    assert given == pytest.approx([2.0, 3.5, 6.875])


def test_each_part_of_the_search_has_a_learning_rate_that_falls_from_its_own(make_bench, space, tmp_path):
    updates = ProxylessUpdates(ProxylessNAS(), make_bench(space, tmp_path))
    rates = []
    updates._train_weights = lambda step, learning_rate: rates.append(learning_rate) or {}
    warm_up, steps = warm_up_updates(updates.bench), updates.bench.config.total_steps
    for step in range(warm_up):
        updates.warm_up(step)
    for step in range(warm_up, steps):
        updates.update(step, lambda *_: {}, 1.0)
    assert (rates[0], rates[warm_up]) == (0.05, 0.025)
    assert all(a > b for place, (a, b) in enumerate(pairwise(rates), 1) if place != warm_up)


def test_weights_learn_from_one_connected_path_at_a_time(make_bench, space, tmp_path):
    updates = ProxylessUpdates(ProxylessNAS(), make_bench(space, tmp_path))
    before = [weight.detach().clone() for weight in updates.weights]
    updates.warm_up(0)
    still = sum(torch.equal(weight, other) for weight, other in zip(before, updates.weights, strict=True))
    assert len(before) / 3 < still < len(before)


def test_wrong_options_are_refused():
    assert ProxylessNAS().latency == "additive"
    for wrong in ({"latency": "none"}, {"rounds": 0}, {"samples": 0}, {"lambda_low": 20.0}):
        with pytest.raises(InvalidValue):
            ProxylessNAS(**wrong)


def test_paths_that_were_not_sampled_have_gates_without_a_gradient():
    sampled = torch.tensor([[True, False, True]])
    alphas = torch.zeros(1, 3, requires_grad=True)
    probabilities = torch.softmax(alphas.masked_fill(~sampled, -torch.inf), dim=1)
    gates = binary_gates(SampledPaths(sampled, torch.tensor([2]), probabilities))
    (gradient,) = torch.autograd.grad((gates * torch.tensor([[1.0, 7.0, 3.0]])).sum(), alphas)
    assert gradient.tolist() == [[-0.5, 0.0, 0.5]]
