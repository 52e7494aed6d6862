import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from search.strategies.darts import Darts, DartsUpdates, hessian_vector_product, unrolled_gradient
from shared.errors import InvalidValue

SIZE = 5


@pytest.fixture
def quadratic():
    """Losses of 5 weights w and 5 alphas a with known derivatives: L_train = w'Aw/2 + w'Ba + a'a/2."""
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    root = draw(SIZE, SIZE)
    w, a = nn.Parameter(draw(SIZE)), nn.Parameter(draw(SIZE))
    hessian, mixed, target = root @ root.T, draw(SIZE, SIZE), draw(SIZE)
    train = lambda: 0.5 * w @ hessian @ w + w @ mixed @ a + 0.5 * a @ a  # noqa: E731
    validation = lambda: 0.5 * (w - target).square().sum() + (w * a).sum()  # noqa: E731
    return w, a, hessian, mixed, target, train, validation


def test_hessian_vector_product_is_exact_for_a_quadratic(quadratic):
    w, a, _, mixed, _, train, _ = quadratic
    vector = torch.arange(1.0, SIZE + 1, dtype=torch.float64)
    found = hessian_vector_product(train, [w], a, [vector])
    torch.testing.assert_close(found, mixed.T @ vector, rtol=1e-9, atol=1e-9)


def test_second_order_gradient_equals_the_gradient_by_hand(quadratic):
    w, a, hessian, mixed, target, train, validation = quadratic
    xi, decay, momentum = 0.1, 0.01, 0.9
    buffer = torch.full_like(w, 0.3)
    before = w.detach().clone()
    loss, gradient = unrolled_gradient(train, validation, [w], a, xi, [buffer], decay, momentum)
    step = hessian @ before + mixed @ a.detach() + decay * before + momentum * buffer
    moved = before - xi * step
    by_weights = moved - target + a.detach()  # dL_val/dw at w'
    by_hand = moved - xi * mixed.T @ by_weights  # direct part, and that through w'
    torch.testing.assert_close(gradient, by_hand, rtol=1e-9, atol=1e-9)
    expected = 0.5 * (moved - target).square().sum() + (moved * a.detach()).sum()
    torch.testing.assert_close(loss.detach(), expected)
    assert torch.equal(w.detach(), before)


def test_second_order_gradient_of_the_supernet_equals_autograd_through_the_step(make_bench, space, tmp_path):
    bench = make_bench(space, tmp_path)
    updates = DartsUpdates(Darts(order=2), bench)
    supernet, weights, alphas, xi = updates.supernet.double(), updates.weights, updates.alphas.double().values, 0.05
    (train, train_labels), (validation, validation_labels) = (
        (images.double(), labels) for images, labels in (bench.weight_batches.batch(0), bench.alpha_batches.batch(0))
    )
    loss, gradient = unrolled_gradient(
        lambda: updates.loss(train, train_labels), lambda: updates.loss(validation, validation_labels),
        weights, alphas, xi, [None] * len(weights), 0.0, 0.0, epsilon=1e-7,
    )  # fmt: skip

    slopes = torch.autograd.grad(updates.loss(train, train_labels), weights, create_graph=True)
    names = [name for name, _ in supernet.named_parameters()]
    moved = {name: weight - xi * slope for name, weight, slope in zip(names, weights, slopes, strict=True)}
    logits = functional_call(supernet, moved, (validation, torch.softmax(alphas, dim=1)))
    exact = F.cross_entropy(logits, validation_labels)
    torch.testing.assert_close(loss, exact)
    expected = torch.autograd.grad(exact, alphas)[0]
    direct = torch.autograd.grad(updates.loss(validation, validation_labels), alphas)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
    assert (expected - direct).abs().max() > 1e-3  # the second term is what this is about


def test_first_order_moves_alpha_by_the_validation_loss_alone(make_bench, space, tmp_path):
    bench = make_bench(space, tmp_path)
    updates = DartsUpdates(Darts(alpha_weight_decay=0.0), bench)
    loss = updates.loss(*bench.alpha_batches.batch(0))
    gradient = torch.autograd.grad(loss, updates.alphas.values)[0]
    before = updates.alphas().detach().clone()
    updates.update(0)
    moved = updates.alphas().detach() - before
    clear = gradient.abs() > 1e-5  # Adam's first step is the sign
    assert torch.equal(moved[clear].sign(), -gradient[clear].sign())


def test_other_orders_are_refused():
    with pytest.raises(InvalidValue, match="neither 1 nor 2"):
        Darts(order=3)
