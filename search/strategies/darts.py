"""DARTS (Liu, Simonyan and Yang, 2019): every op of every edge at once, weighted by softmax(alpha).

Alpha and weights are updated alternately, with a batch each (algorithm 1):

    alpha   by the gradient of   L_val(w - xi dL_train(w, alpha)/dw, alpha)                     (6)
    w       by the gradient of   L_train(w, alpha)

First order: xi = 0. Second order: xi is the learning rate of w, and the chain rule gives

    dL_val(w', alpha)/dalpha - xi d^2 L_train(w, alpha)/(dalpha dw) dL_val(w', alpha)/dw'       (7)

Its second term is a Hessian-vector product, computed by finite differences:

    (dL_train(w+, alpha)/dalpha - dL_train(w-, alpha)/dalpha) / (2 epsilon)                     (8)

with w+- = w +- epsilon dL_val(w', alpha)/dw' and epsilon = 0.01 / |dL_val/dw'|. The step to w'
includes momentum and weight decay, as in the authors' code. Optimisers and settings are the
authors'. DARTS knows neither latency nor budget: the network is read off the final alphas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.strategies.bilevel_loop import Learner, OptimizerSettings, run_updates
from search.strategies.context import Bench, Outcome
from search.strategies.discretize import propose_strongest
from shared.errors import InvalidValue

EPSILON = 0.01
"""The authors' value: small against the weights, large against ReLU kinks."""

Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Darts(OptimizerSettings):
    """The order of the alpha update, and the authors' settings."""

    order: int = 1

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise InvalidValue("darts:order", f"{self.order} is neither 1 nor 2")

    def search(self, bench: Bench) -> Outcome:
        updates, steps = DartsUpdates(self, bench), bench.config.total_steps
        run_updates(bench, f"darts, order {self.order}", steps, updates.state, updates.update)
        return propose_strongest(bench, updates.alphas(), steps * bench.batch_size)


class DartsUpdates(Learner):
    """Updates of a DARTS search."""

    settings: Darts

    def update(self, step: int) -> dict[str, float]:
        """Update alpha, then the weights."""
        alphas, xi = self.alphas.values, self.weight_lr(step)
        train, validation = self.bench.weight_batches.batch(step), self.bench.alpha_batches.batch(step)
        if self.settings.order == 1:
            alpha_loss = self.update_alphas(self.loss(*validation))
        else:
            loss, alphas.grad = unrolled_gradient(
                lambda: self.loss(*train),
                lambda: self.loss(*validation),
                self.weights,
                alphas,
                xi,
                [self.weight_optimizer.state[weight].get("momentum_buffer") for weight in self.weights],
                self.settings.weight_decay,
                self.settings.momentum,
            )
            self.alpha_optimizer.step()
            alpha_loss = loss.item()
        train_loss = self.loss(*train, gates=torch.softmax(alphas.detach(), dim=1))
        return {"loss": self.update_weights(train_loss, xi), "alpha_loss": alpha_loss}

    def loss(self, images: Tensor, labels: Tensor, gates: Tensor | None = None) -> Tensor:
        """Cross-entropy under gates (slots, primitives), by default softmax(alpha)."""
        gates = torch.softmax(self.alphas(), dim=1) if gates is None else gates
        return F.cross_entropy(self.supernet(images, gates), labels)


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
    """Validation loss at w' and its gradient with respect to alpha (equation 7).

    Args:
        train_loss, validation_loss: computed from the current weights and alphas.
        weights, alphas: that the losses depend on.
        xi: learning rate of the step to w'.
        buffers: momentum of each weight; None where there is none yet.
        epsilon: length of the finite-difference steps.
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
    """d^2 loss/(dalpha dw) times a vector of the weights' shapes (equation 8)."""
    norms = torch.stack([torch.linalg.vector_norm(part) for part in vector])
    scale = epsilon / float(torch.linalg.vector_norm(norms))
    slopes: list[Tensor] = []
    for sign in (1, -1):
        with _moved(weights, [sign * scale * part for part in vector]):
            slopes.append(torch.autograd.grad(loss(), alphas)[0])
    return (slopes[0] - slopes[1]) / (2 * scale)


@contextmanager
def _moved(weights: Sequence[nn.Parameter], steps: Sequence[Tensor]) -> Iterator[None]:
    """Move the weights by these steps, and back to exactly where they were."""
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        torch._foreach_add_(list(weights), list(steps))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(weights), kept)
