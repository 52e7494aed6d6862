import pytest
import torch
from torch.nn import functional as F

from search.process.randomness import generator
from search.strategies.gdas import Gdas, GdasUpdates, hard_gates
from shared.errors import LutnasError
from shared.spaces import make_space


def test_gates_are_one_for_the_drawn_op_and_carry_the_soft_samples_gradient(space):
    shape = len(space.slots), len(space.slots[0].primitives)
    alphas = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    gates, drawn = hard_gates(alphas, space, 2.0, generator(0, "test"))
    ones = F.one_hot(torch.tensor(drawn), shape[1]).float()
    torch.testing.assert_close(gates.detach(), ones, atol=1e-6, rtol=0)
    again = alphas.detach().requires_grad_()
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    gradient = torch.autograd.grad((gates * weights).sum(), alphas)[0]

    random = generator(0, "test")
    while True:  # the noise of the draw that was taken, and the soft sample from it, written out
        uniform = torch.rand(shape, generator=random).clamp(1e-9, 1 - 1e-7)
        noisy = torch.log_softmax(again, dim=1) - torch.log(-torch.log(uniform))
        if noisy.argmax(dim=1).tolist() == drawn:
            break
    soft = torch.softmax(noisy / 2.0, dim=1)
    torch.testing.assert_close(gradient, torch.autograd.grad((soft * weights).sum(), again)[0])


def test_alphas_that_connect_nothing_end_the_search_in_a_line():
    cells = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
    alphas = torch.zeros(6, 5)
    alphas[:, cells.slots[0].primitives.index("none")] = 1e4
    with pytest.raises(LutnasError, match="gdas: none of 200 draws connects input and output"):
        hard_gates(alphas, cells, 1.0, generator(0, "test"))


def test_only_the_drawn_ops_run_and_only_their_gates_get_a_gradient(make_bench, space, tmp_path):
    updates = GdasUpdates(Gdas(), make_bench(space, tmp_path))
    images, labels = updates.bench.weight_batches.batch(0)
    values, drawn = hard_gates(updates.alphas(), space, 5.0, generator(3, "test"))
    gates = values.detach().requires_grad_()
    loss = F.cross_entropy(updates.supernet(images, gates, [(column,) for column in drawn]), labels)
    gradient, *others = torch.autograd.grad(loss, [gates, *updates.weights], allow_unused=True)
    chosen = F.one_hot(torch.tensor(drawn), gates.shape[1]).bool()
    assert (gradient[~chosen] == 0).all()
    assert (gradient[chosen] != 0).any()
    whole = F.cross_entropy(updates.supernet(images, gates), labels)
    torch.testing.assert_close(loss, whole, rtol=1e-4, atol=1e-5)
    assert sum(other is None for other in others) > len(others) / 3


def test_alpha_and_weights_move_in_every_update(make_bench, space, tmp_path):
    updates = GdasUpdates(Gdas(), make_bench(space, tmp_path))
    alphas = updates.alphas().detach().clone()
    weights = [weight.detach().clone() for weight in updates.weights]
    updates.update(0)
    assert not torch.equal(alphas, updates.alphas())
    assert any(not torch.equal(before, after) for before, after in zip(weights, updates.weights, strict=True))
