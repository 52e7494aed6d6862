"""DARTS (Liu, Simonyan and Yang, 2019): every op of every edge at once, weighted by softmax(alpha).

Alternately, with a batch each (algorithm 1):

    alpha   by the gradient of   L_val(w - xi dL_train(w, alpha)/dw, alpha)                                   (6)
    w       by the gradient of   L_train(w, alpha)

First order: xi = 0. Second order: xi = the learning rate of w, and the chain rule gives

    dL_val(w', alpha)/dalpha - xi d^2 L_train(w, alpha)/(dalpha dw) dL_val(w', alpha)/dw'                     (7)

whose second term is a Hessian-vector product, taken by finite differences:

    (dL_train(w+, alpha)/dalpha - dL_train(w-, alpha)/dalpha) / (2 epsilon)                                 (8)

with w+- = w +- epsilon dL_val(w', alpha)/dw' and epsilon = 0.01 / |dL_val/dw'|. w' takes momentum and weight decay
along, as the authors' code does. Optimisers and their settings are the authors'. The network is read off the alphas at
the end: DARTS knows neither latency nor budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.strategies.bilevel_loop import Stateful, cosine, descend, run_updates, set_learning_rate
from search.strategies.context import Bench, Outcome
from search.strategies.discretize import propose_strongest
from shared.errors import InvalidValue

EPSILON = 0.01
"""The authors' own; small against the weights, but large against the distance to the next kink of a ReLU."""
ORDERS = (1, 2)

Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Darts:
    """Options and the authors' settings."""

    order: int = 1
    weight_lr: float = 0.025
    last_weight_lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3

    uses_one_shot: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise InvalidValue("darts:order", f"{self.order} is neither 1 nor 2")

    def search(self, bench: Bench) -> Outcome:
        """See `Strategy.search`."""
        updates = DartsUpdates(self, bench)
        steps = bench.config.total_steps
        run_updates(bench, f"darts, order {self.order}", steps, updates.state, updates.update)
        return propose_strongest(bench, updates.alphas(), steps * bench.weight_batches.batch_size)


class DartsUpdates:
    """Supernet, alphas and their optimisers."""

    def __init__(self, settings: Darts, bench: Bench) -> None:
        self._settings, self._bench = settings, bench
        self.supernet, self.alphas = bench.new_supernet(), bench.new_alphas()
        self.weights = list(self.supernet.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.weights, settings.weight_lr, settings.momentum, weight_decay=settings.weight_decay, foreach=True
        )
        self.alpha_optimizer = torch.optim.Adam(
            self.alphas.parameters(), settings.alpha_lr, (0.5, 0.999), weight_decay=settings.alpha_weight_decay
        )
        self.state: dict[str, Stateful] = {
            "supernet": self.supernet,
            "alphas": self.alphas,
            "weight_optimizer": self.weight_optimizer,
            "alpha_optimizer": self.alpha_optimizer,
        }

    def update(self, step: int) -> dict[str, float]:
        """One of alpha, one of the weights."""
        settings, logits = self._settings, self.alphas.values
        xi = cosine(settings.weight_lr, settings.last_weight_lr, step, self._bench.config.total_steps)
        train, validation = self._bench.weight_batches.batch(step), self._bench.alpha_batches.batch(step)

        if settings.order == 1:
            validation_loss = self._loss(*validation)
            gradient = torch.autograd.grad(validation_loss, logits)[0]
        else:
            validation_loss, gradient = unrolled_gradient(
                lambda: self._loss(*train),
                lambda: self._loss(*validation),
                self.weights,
                logits,
                xi,
                self._momentum_buffers(),
                settings.weight_decay,
                settings.momentum,
            )
        descend(self.alpha_optimizer, [logits], [gradient])

        set_learning_rate(self.weight_optimizer, xi)
        train_loss = self._loss(*train, mixture=torch.softmax(logits.detach(), dim=1))
        gradients = torch.autograd.grad(train_loss, self.weights)
        descend(self.weight_optimizer, self.weights, gradients, settings.gradient_clip)
        return {"loss": train_loss.item(), "alpha_loss": validation_loss.item()}

    def _loss(self, images: Tensor, labels: Tensor, mixture: Tensor | None = None) -> Tensor:
        gates = torch.softmax(self.alphas(), dim=1) if mixture is None else mixture
        return F.cross_entropy(self.supernet(images, gates), labels)

    def _momentum_buffers(self) -> list[Tensor | None]:
        return [self.weight_optimizer.state[weight].get("momentum_buffer") for weight in self.weights]


def unrolled_gradient(
    train_loss: Loss,
    validation_loss: Loss,
    weights: Sequence[nn.Parameter],
    alphas: nn.Parameter,
    xi: float,
    buffers: Sequence[Tensor | None],
    weight_decay: float,
    momentum: float,
    epsilon: float = EPSILON,
) -> tuple[Tensor, Tensor]:
    """Validation loss at w' and its gradient with respect to alpha (equation 7); the weights come back as they were.

    Args:
        train_loss, validation_loss: as functions of what weights and alphas are when called.
        weights, alphas: that they depend on.
        xi: learning rate of the one step to w'.
        buffers: momentum of each weight, None where there is none yet.
        weight_decay, momentum: of the step to w'.
        epsilon: length of the steps of the finite differences.
    """
    gradients = torch.autograd.grad(train_loss(), weights)
    steps = [
        -xi * (gradient + weight_decay * weight.detach() + (0 if buffer is None else momentum * buffer))
        for gradient, weight, buffer in zip(gradients, weights, buffers, strict=True)
    ]
    with _moved(weights, steps):
        loss = validation_loss()
        direct, *vector = torch.autograd.grad(loss, [alphas, *weights])
    return loss, direct - xi * hessian_vector_product(train_loss, weights, alphas, vector, epsilon)


def hessian_vector_product(
    loss: Loss,
    weights: Sequence[nn.Parameter],
    alphas: nn.Parameter,
    vector: Sequence[Tensor],
    epsilon: float = EPSILON,
) -> Tensor:
    """d^2 loss/(dalpha dw) times a vector in the weights' space, by finite differences (equation 8)."""
    norms = torch.stack([torch.linalg.vector_norm(part) for part in vector])
    scale = epsilon / float(torch.linalg.vector_norm(norms))
    slopes: list[Tensor] = []
    for sign in (1, -1):
        with _moved(weights, [sign * scale * part for part in vector]):
            slopes.append(torch.autograd.grad(loss(), alphas)[0])
    return (slopes[0] - slopes[1]) / (2 * scale)


@contextmanager
def _moved(weights: Sequence[nn.Parameter], steps: Sequence[Tensor]) -> Iterator[None]:
    """The weights elsewhere, and exactly where they were afterwards."""
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        torch._foreach_add_(list(weights), list(steps))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(weights), kept)
