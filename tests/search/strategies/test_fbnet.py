import math

import pytest
import torch
from torch.nn import functional as F

from search.process.randomness import generator
from search.strategies.fbnet import FBNet, FBNetUpdates, gumbel_softmax, latency_aware_loss
from shared.errors import InvalidValue
from shared.spaces import make_space


def test_gates_are_equation_8_where_slots_choose_for_themselves(space):
    alphas = torch.randn(len(space.slots), len(space.slots[0].primitives), generator=torch.Generator().manual_seed(0))
    gates = gumbel_softmax(space, alphas, 0.7, generator(0, "test"))
    torch.testing.assert_close(gates.sum(dim=1), torch.ones(len(alphas)))
    if space.groups:
        none = space.slots[0].primitives.index("none")
        for group in space.groups:
            assert float(1 - gates[list(group.slots), none].sum() + len(group.slots) - 1) == pytest.approx(group.kept)
        return
    uniform = torch.rand(alphas.shape, generator=generator(0, "test")).clamp(1e-9, 1 - 1e-7)
    noisy = (alphas - torch.log(-torch.log(uniform))) / 0.7
    torch.testing.assert_close(gates, noisy.exp() / noisy.exp().sum(dim=1, keepdim=True))


def test_loss_and_its_gradient_are_those_of_equation_2():
    cross_entropy = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    latency_ms = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss = latency_aware_loss(cross_entropy, latency_ms, 0.2, 0.6)
    logarithm = math.log(300)
    assert loss.item() == pytest.approx(1.7 * 0.2 * logarithm**0.6)
    by_entropy, by_latency = torch.autograd.grad(loss, [cross_entropy, latency_ms])
    assert by_entropy.item() == pytest.approx(0.2 * logarithm**0.6)
    assert by_latency.item() == pytest.approx(1.7 * 0.2 * 0.6 * logarithm**-0.4 / 0.3)


def test_alphas_follow_the_difference_quotient_of_the_loss(make_bench, space, tmp_path):
    updates = FBNetUpdates(FBNet(), make_bench(space, tmp_path), beta=5.0)
    updates.supernet.double(), updates.alphas.double()
    images, labels = updates.bench.alpha_batches.batch(0)
    alphas = updates.alphas.values

    def loss() -> torch.Tensor:
        gates = updates.gates(0, "thetas")
        cross_entropy = F.cross_entropy(updates.supernet(images.double(), gates), labels)
        return latency_aware_loss(cross_entropy, updates.latency.expected(gates), 0.2, 5.0)

    (gradient,) = torch.autograd.grad(loss(), alphas)
    direction = torch.randn(alphas.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            alphas += sign * 1e-5 * direction
            values.append(loss().item())
    assert float((gradient * direction).sum()) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3)


def test_temperature_falls_as_published(make_bench, space, tmp_path):
    updates = FBNetUpdates(FBNet(), make_bench(space, tmp_path, warmup_steps=90, search_steps=90))
    assert updates.temperature(0) == updates.temperature(1) == 5.0
    assert updates.temperature(2) == pytest.approx(5.0 * math.exp(-0.045))
    assert updates.temperature(179) == pytest.approx(5.0 * math.exp(-0.045 * 89))


def test_more_weight_on_latency_makes_faster_alphas_and_the_scale_alone_changes_nothing(make_bench, space, tmp_path):
    def expected_ms(beta: float, **settings: float) -> float:
        bench = make_bench(space, tmp_path / f"{beta}{settings}", warmup_steps=10, search_steps=10)
        updates = FBNetUpdates(FBNet(alpha_lr=0.2, alpha_weight_decay=0.0, **settings), bench, beta)
        for step in (3, 7, 11):
            updates.train_alphas(step)
        return float(updates.latency.expected(torch.softmax(updates.alphas().detach(), dim=1)))

    assert expected_ms(15.0) < expected_ms(0.02)
    assert expected_ms(5.0, scale=0.2) == pytest.approx(expected_ms(5.0, scale=2.0), rel=1e-3)


def test_weights_are_trained_alone_first_and_once_for_all_searches(make_bench, tmp_path):
    cells = make_space("nas-bench-201", resolution=8, channels=4, depth=1, image_channels=1)
    bench = make_bench(cells, tmp_path, warmup_steps=4, search_steps=5)
    outcome = FBNet(rounds=2).search(bench)
    folders = sorted(path.name.split("-")[0] for path in bench.folder.iterdir())
    searches = folders.count("beta")
    assert folders == ["beta"] * searches + ["weights"]
    assert outcome.notes[0] == f"{searches} whole searches for 3 budgets"
    assert outcome.training_images == (1 + searches * 8) * bench.weight_batches.batch_size
    first = torch.load(bench.folder / "weights-only" / "updates.pt", weights_only=True)
    assert first["step"] == 1
    assert not first["state"]["alphas"]["values"].any()


def test_wrong_options_are_refused():
    for wrong in ({"rounds": 0}, {"beta_low": 0.0}, {"weight_updates": 0}):
        with pytest.raises(InvalidValue):
            FBNet(**wrong)
