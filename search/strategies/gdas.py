"""GDAS (Dong and Yang, 2019): a single op per edge, drawn by differentiable Gumbel-max sampling.

    h      = one_hot(argmax(h~)),   h~ = softmax((log softmax(alpha) + o) / tau)         (3), (4)
    node   = sum over edges and ops of  h_op x op(input) = sum over edges of  drawn(input)    (5)

o is standard Gumbel noise. Forwards an edge runs the drawn op alone. Backwards the gradient reaches
alpha through h~ of that op (straight-through); values of the other ops are never computed. tau
falls linearly. Weights are updated on training images and alpha on validation images, alternately,
with a batch each. Optimisers and settings are the authors'. GDAS knows neither latency nor budget:
the network is read off the final alphas.

In NAS-Bench-201 a draw that does not connect input and output is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from search.alphas.path_sampling import MOST_TRIES, one_hot_with_gradient
from search.genotypes.constrained_argmax import to_genotype
from search.process.randomness import generator, gumbel
from search.strategies.bilevel_loop import Learner, OptimizerSettings, run_updates
from search.strategies.context import Bench, Outcome
from search.strategies.discretize import propose_strongest
from shared.errors import InvalidValue, LutnasError
from shared.spaces import Space


@dataclass(frozen=True)
class Gdas(OptimizerSettings):
    """The temperature tau, and the authors' settings."""

    weight_decay: float = 5e-4
    tau_first: float = 10.0
    tau_last: float = 0.1

    nesterov: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("tau_first", "tau_last"):
            if not getattr(self, name) > 0:
                raise InvalidValue(f"gdas:{name}", f"{getattr(self, name)} is not above 0")

    def search(self, bench: Bench) -> Outcome:
        updates, steps = GdasUpdates(self, bench), bench.config.total_steps
        run_updates(bench, "gdas", steps, updates.state, updates.update)
        return propose_strongest(bench, updates.alphas(), steps * bench.batch_size)


class GdasUpdates(Learner):
    """Updates of a GDAS search."""

    settings: Gdas

    def update(self, step: int) -> dict[str, float]:
        """Update the weights, then alpha, each with a draw of its own."""
        first, last = self.settings.tau_first, self.settings.tau_last
        tau = first + (last - first) * step / max(self.bench.config.total_steps - 1, 1)
        with torch.no_grad():
            gates, drawn = self._draw(tau, "weights", step)
        loss = self._loss(self.bench.weight_batches.batch(step), gates, drawn)
        train_loss = self.update_weights(loss, self.weight_lr(step))
        gates, drawn = self._draw(tau, "alpha", step)
        alpha_loss = self.update_alphas(self._loss(self.bench.alpha_batches.batch(step), gates, drawn))
        return {"loss": train_loss, "alpha_loss": alpha_loss}

    def _draw(self, tau: float, purpose: str, step: int) -> tuple[Tensor, list[int]]:
        random = generator(self.bench.config.seed, "gdas", purpose, step)
        return hard_gates(self.alphas(), self.bench.space, tau, random)

    def _loss(self, batch: tuple[Tensor, Tensor], gates: Tensor, drawn: Sequence[int]) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.supernet(images, gates, [(column,) for column in drawn]), labels)


def hard_gates(alphas: Tensor, space: Space, tau: float, random: torch.Generator) -> tuple[Tensor, list[int]]:
    """Gates h (slots, primitives) with the gradient of h~ (equations 3 and 4), and drawn columns.

    Args:
        alphas: logits (slots, primitives).
        space: its groups do not matter: during the search every edge runs.
        tau: temperature.
        random: of the Gumbel noise.

    Raises:
        LutnasError: no draw connects input and output.
    """
    log_probabilities = torch.log_softmax(alphas, dim=1)
    for _ in range(MOST_TRIES):
        noisy = log_probabilities + gumbel(alphas.shape, random)
        columns = noisy.detach().argmax(dim=1)
        if space.groups or space.is_connected(to_genotype(space, columns)):
            return one_hot_with_gradient(torch.softmax(noisy / tau, dim=1), columns), columns.tolist()
    raise LutnasError(f"gdas: none of {MOST_TRIES} draws connects input and output; a lower alpha_lr helps")
