"""GDAS (Dong and Yang, 2019): one op per edge at a time, drawn by differentiable Gumbel-max sampling.

    h      = one_hot(argmax(h~)),   h~ = softmax((log softmax(alpha) + o) / tau),   o standard Gumbel        (3), (4)
    node   = sum over edges of  sum over ops of  h_op x op(input) = sum over edges of  h_drawn x drawn(input)       (5)

Forwards an edge runs the op that was drawn and no other. Backwards the gradient reaches alpha through h~ of that op
alone (straight-through): what the others would have given is never computed. tau falls linearly. Alternately, with a
batch each, the weights on training images and alpha on validation images. Single precision; optimisers and their
settings are the authors'. The network is read off the alphas at the end: GDAS knows neither latency nor budget.

In NAS-Bench-201 a draw that does not connect input and output is drawn anew: it could train nothing but a bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from search.alphas.path_sampling import MOST_TRIES
from search.genotypes.constrained_argmax import to_genotype
from search.process.randomness import generator, gumbel
from search.strategies.bilevel_loop import Stateful, cosine, descend, run_updates, set_learning_rate
from search.strategies.context import Bench, Outcome
from search.strategies.discretize import propose_strongest
from shared.errors import InvalidValue
from shared.spaces import Space


@dataclass(frozen=True)
class Gdas:
    """Options and the authors' settings."""

    tau_first: float = 10.0
    tau_last: float = 0.1
    weight_lr: float = 0.025
    last_weight_lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    gradient_clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3

    uses_one_shot: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("tau_first", "tau_last"):
            if not getattr(self, name) > 0:
                raise InvalidValue(f"gdas:{name}", f"{getattr(self, name)} is not above 0")

    def search(self, bench: Bench) -> Outcome:
        """See `Strategy.search`."""
        updates = GdasUpdates(self, bench)
        steps = bench.config.total_steps
        run_updates(bench, "gdas", steps, updates.state, updates.update)
        return propose_strongest(bench, updates.alphas(), steps * bench.weight_batches.batch_size)


class GdasUpdates:
    """Supernet, alphas and their optimisers."""

    def __init__(self, settings: Gdas, bench: Bench) -> None:
        self._settings, self._bench = settings, bench
        self.supernet, self.alphas = bench.new_supernet(), bench.new_alphas()
        self.weights = list(self.supernet.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.weights,
            settings.weight_lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
            foreach=True,
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
        """One of the weights, one of alpha, each with a draw of its own."""
        settings, steps = self._settings, self._bench.config.total_steps
        tau = settings.tau_first + (settings.tau_last - settings.tau_first) * step / max(steps - 1, 1)
        set_learning_rate(self.weight_optimizer, cosine(settings.weight_lr, settings.last_weight_lr, step, steps))
        with torch.no_grad():
            gates, drawn = self._draw(tau, "weights", step)
        train_loss = self._loss(self._bench.weight_batches.batch(step), gates, drawn)
        gradients = torch.autograd.grad(train_loss, self.weights, allow_unused=True)
        descend(self.weight_optimizer, self.weights, gradients, settings.gradient_clip)

        gates, drawn = self._draw(tau, "alpha", step)
        validation_loss = self._loss(self._bench.alpha_batches.batch(step), gates, drawn)
        gradient = torch.autograd.grad(validation_loss, self.alphas.values)[0]
        descend(self.alpha_optimizer, [self.alphas.values], [gradient])
        return {"loss": train_loss.item(), "alpha_loss": validation_loss.item()}

    def _draw(self, tau: float, purpose: str, step: int) -> tuple[Tensor, list[int]]:
        random = generator(self._bench.config.seed, "gdas", purpose, step)
        return hard_gates(self.alphas(), self._bench.space, tau, random)

    def _loss(self, batch: tuple[Tensor, Tensor], gates: Tensor, drawn: Sequence[int]) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.supernet(images, gates, [(column,) for column in drawn]), labels)


def hard_gates(alphas: Tensor, space: Space, tau: float, random: torch.Generator) -> tuple[Tensor, list[int]]:
    """Gates h (slots, primitives) with the gradient of h~ (equations 3 and 4), and the column drawn in each slot.

    Args:
        alphas: logits (slots, primitives).
        space: whose groups are not looked at: while searching every edge runs.
        tau: temperature.
        random: of the Gumbel noise.
    """
    log_probabilities = torch.log_softmax(alphas, dim=1)
    for _ in range(MOST_TRIES):
        noisy = log_probabilities + gumbel(alphas.shape, random)
        columns = noisy.detach().argmax(dim=1)
        if space.groups or space.is_connected(to_genotype(space, columns)):
            break
    soft = torch.softmax(noisy / tau, dim=1)
    hard = torch.zeros_like(soft).scatter_(1, columns[:, None], 1.0)
    return hard + (soft - soft.detach()), columns.tolist()
